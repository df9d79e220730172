"""mdp_jax/evaluation/inference.py: networks of one matrix, whose scores a loop over photos can work out."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdp_jax.errors import UserError
from mdp_jax.evaluation import inference, metrics
from mdp_jax.evaluation.views import WHOLE, Views
from mdp_jax.models.normalisation import Normalise

CLASSES = ("sky", "road", "car")
NORMALISE = Normalise((120.0, 110.0, 100.0), (50.0, 60.0, 70.0), "float32")


class PixelNetwork:
    """Logits of a pixel are its normalised colour times a [3,C] matrix; counts how often it is traced."""

    def __init__(self):
        self.traced = []

    def apply(self, variables, images, train):
        assert not train and images.dtype == jnp.float32
        self.traced.append(images.shape)
        return jnp.einsum("bhwk,kc->bhwc", images, variables["matrix"], precision="highest")


class Photos:
    def __init__(self, samples, classes=CLASSES):
        self.samples, self.classes, self.name = samples, classes, "made up"
        self.read = []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append((index, threading.current_thread()))
        image, label = self.samples[index]
        return {"image": image, "label": label}

    def describe(self, index):
        return f"photo_{index}.jpg"


def made_up_photos(sizes, seed=0):
    rng = np.random.default_rng(seed)
    image = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    label = [rng.integers(-1, 3, size).astype(np.int16) for size in sizes]
    return Photos(list(zip(image, label, strict=True)))


def matrix(seed=1):
    return {"matrix": np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32)}


def expected_scores(photos, variables):
    counts = np.zeros((4, 4), int)
    for image, label in photos.samples:
        for y, x in np.ndindex(*label.shape):
            logits = ((image[y, x] - np.array(NORMALISE.mean)) / np.array(NORMALISE.std)) @ variables["matrix"]
            if label[y, x] >= 0:
                counts[label[y, x], np.argmax(logits)] += 1
    return metrics.scores(counts, CLASSES) | {"images": len(photos)}


SIZES = [(6, 8), (6, 8), (5, 7), (6, 8), (6, 8), (7, 5), (6, 8), (5, 7)]


def test_scores_equal_a_loop_over_photos_of_several_shapes():
    photos, network, done = made_up_photos(SIZES), PixelNetwork(), []
    evaluator = inference.Evaluator(network, photos, NORMALISE, pixels=2 * 6 * 8)
    assert evaluator(matrix(), done.append) == expected_scores(photos, matrix())
    # Two full pairs of 6x8, a pair of 5x7; one 6x8 is left over, and runs with a filler in the program of the pairs.
    assert done == [2, 4, 6, 7, 8]
    assert network.traced == [(2, 6, 8, 3), (2, 5, 7, 3), (1, 7, 5, 3)]
    assert evaluator.compiled_shapes == 3
    assert sorted(index for index, _ in photos.read) == list(range(8))
    assert all(thread is not threading.main_thread() for _, thread in photos.read)


def test_new_weights_compile_nothing():
    photos, network = made_up_photos(SIZES), PixelNetwork()
    evaluator = inference.Evaluator(network, photos, NORMALISE, pixels=2 * 6 * 8)
    first, second = evaluator(matrix(1)), evaluator(matrix(2))
    assert first != second
    assert second == expected_scores(photos, matrix(2))
    assert len(network.traced) == evaluator.compiled_shapes == 3


@pytest.mark.parametrize("pixels", [1, 3 * 48, 10**6])
def test_scores_do_not_depend_on_how_many_run_together(pixels):
    photos = made_up_photos(SIZES)
    assert inference.Evaluator(PixelNetwork(), photos, NORMALISE, pixels)(matrix()) == expected_scores(photos, matrix())


def test_few_photos_are_held_back(monkeypatch):
    monkeypatch.setattr(inference, "HELD_PHOTOS", 3)
    photos, done = made_up_photos(SIZES), []
    evaluator = inference.Evaluator(PixelNetwork(), photos, NORMALISE, pixels=3 * 6 * 8)
    assert evaluator(matrix(), done.append) == expected_scores(photos, matrix())
    assert done[0] == 2  # the third photo, of another shape, filled the waiting room


@pytest.mark.parametrize("processes", [2, 5])
def test_confusion_matrices_of_several_processes_add_up(processes):
    photos = made_up_photos([(6, 8), (5, 7), (6, 8), (6, 8)])
    counts, number = np.zeros((4, 4), np.int64), 0
    for index in range(processes):
        photos.read.clear()
        own = inference.Evaluator(PixelNetwork(), photos, NORMALISE, process_index=index, process_count=processes)
        own_counts, own_photos = own.counts(matrix())
        assert own_counts.dtype == np.int64
        assert sorted(index for index, _ in photos.read) == list(range(4))[index::processes]
        counts, number = counts + own_counts, number + own_photos
    assert {**metrics.scores(counts, CLASSES), "images": number} == expected_scores(photos, matrix())


def test_a_process_scores_its_own_photos():
    photos, done = made_up_photos(SIZES), []
    own = Photos(photos.samples[1::3])
    evaluator = inference.Evaluator(PixelNetwork(), photos, NORMALISE, process_index=1, process_count=3)
    assert evaluator(matrix(), done.append) == expected_scores(own, matrix())
    assert done[-1] == 3


def test_a_bad_label_names_the_photo_in_any_process():
    photos = made_up_photos(SIZES)
    photos.samples[5][1][2, 2] = 3
    evaluator = inference.Evaluator(PixelNetwork(), photos, NORMALISE, process_index=2, process_count=3)
    with pytest.raises(UserError, match=r"photo_5\.jpg: label 3"):
        evaluator(matrix())


class WatchedNetwork(PixelNetwork):
    """Notes on how many devices the images of each compiled program are."""

    def __init__(self):
        super().__init__()
        self.shards = []

    def apply(self, variables, images, train):
        jax.debug.inspect_array_sharding(
            images, callback=lambda sharding: self.shards.append(sharding.shard_shape(images.shape)[0])
        )
        return super().apply(variables, images, train)


@pytest.mark.parametrize("devices", [2, 8])
def test_photos_are_split_over_the_devices_of_a_mesh(devices):
    """The counts are those of one device; the five photos of one shape and the fillers fill each device's share."""
    mesh, network = inference.mesh_of(jax.devices()[:devices]), WatchedNetwork()
    variables = jax.device_put(matrix(), NamedSharding(mesh, PartitionSpec()))
    photos, done = made_up_photos(SIZES), []
    evaluator = inference.Evaluator(network, photos, NORMALISE, pixels=2 * 6 * 8, mesh=mesh)
    assert evaluator(variables, done.append) == expected_scores(photos, matrix())
    # Of two devices: four photos of 6x8 fill a batch and one is left over; two of 5x7, and one of 7x5 with a filler.
    assert [shape[0] for shape in network.traced] == ([4, 2, 2] if devices == 2 else [8, 8, 8])
    assert sorted(network.shards) == ([1, 1, 2] if devices == 2 else [1, 1, 1])
    assert done[-1] == len(SIZES)


def test_a_label_outside_the_classes_names_the_photo():
    photos = made_up_photos(SIZES)
    photos.samples[3][1][2, 2] = 3
    with pytest.raises(UserError, match=r"photo_3\.jpg: label 3, expected ids below 3"):
        inference.Evaluator(PixelNetwork(), photos, NORMALISE)(matrix())


def test_an_error_of_the_source_comes_through():
    class Broken(Photos):
        def __getitem__(self, index):
            if index == 2:
                raise UserError("photo_2.jpg is truncated")
            return super().__getitem__(index)

    photos = Broken(made_up_photos(SIZES).samples)
    with pytest.raises(UserError, match="photo_2"):
        inference.Evaluator(PixelNetwork(), photos, NORMALISE)(matrix())


class FixedLogits:
    """The same [h,w,C] logits for every photo."""

    def __init__(self, logits):
        self.logits = np.asarray(logits, np.float32)

    def apply(self, variables, images, train):
        return jnp.broadcast_to(self.logits[None], (images.shape[0], *self.logits.shape))


def test_logits_are_interpolated_before_the_maximum_is_taken():
    # Class 0 falls from 1 to 0 over two feature pixels, so 1, .75, .25, 0 over four pixels; class 1 has .8 everywhere.
    network = FixedLogits([[[1.0, 0.8], [0.0, 0.8]]])
    label = inference.Predictor(network, NORMALISE)({}, np.zeros((2, 8, 3), np.uint8), (1, 4))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[0, 1, 1, 1]])


def test_evaluation_is_at_the_size_of_the_label():
    network = FixedLogits([[[1.0, 0.8], [0.0, 0.8]]])
    photos = Photos([(np.zeros((2, 8, 3), np.uint8), np.array([[0, 1, 1, 0]], np.int16))], ("a", "b"))
    scores = inference.Evaluator(network, photos, NORMALISE)({})
    assert scores["per_class"] == pytest.approx({"a": 50.0, "b": 100 * 2 / 3})
    assert (scores["aAcc"], scores["images"]) == (75.0, 1)


def test_equal_logits_go_to_the_first_class():
    label = inference.Predictor(FixedLogits(np.zeros((2, 2, 3))), NORMALISE)({}, np.zeros((4, 4, 3), np.uint8), (4, 4))
    np.testing.assert_array_equal(label, np.zeros((4, 4)))


class ContextNetwork(PixelNetwork):
    """A pixel's logits also depend on what else its window shows."""

    def apply(self, variables, images, train):
        return super().apply(variables, images, train) - 2 * images.mean(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("shown", [Views(scales=(1.0,)), Views(crop=(8, 8), stride=(5, 5))])
def test_one_view_of_all_of_the_photo_is_the_plain_mode(shown):
    photos = made_up_photos([(6, 8), (5, 7)])
    plain, other = (inference.Evaluator(ContextNetwork(), photos, NORMALISE, views=v) for v in (WHOLE, shown))
    np.testing.assert_array_equal(other.counts(matrix())[0], plain.counts(matrix())[0])


def test_scores_count_what_the_predictor_says():
    photos, network = made_up_photos([(6, 8), (5, 7), (6, 8), (6, 8), (6, 8)]), ContextNetwork()
    shown = Views((4, 4), (2, 3), scales=(1.0, 1.5), flip=True)
    evaluator = inference.Evaluator(network, photos, NORMALISE, pixels=2 * 9 * 12, views=shown)
    found, traced = evaluator(matrix()), len(network.traced)
    assert evaluator(matrix(2)) != found and len(network.traced) == traced  # new weights compile nothing
    assert evaluator.compiled_shapes == 2
    counts = np.zeros((4, 4), int)
    for image, label in photos.samples:
        guess = evaluator.predict(matrix(), image, label.shape)
        np.add.at(counts, (label[label >= 0], guess[label >= 0]), 1)
    assert found == metrics.scores(counts, CLASSES) | {"images": len(photos)}
    assert found != inference.Evaluator(network, photos, NORMALISE)(matrix())


def test_slide_answers_by_windows():
    # The mean over a photo of two halves is 0.5 for both classes; over a half of it, all the half's own.
    class Majority:
        def apply(self, variables, images, train):
            return 0 * images[..., :2] + images.mean(axis=(1, 2), keepdims=True)[..., :2]

    image = np.zeros((2, 8, 3), np.uint8)
    image[:, :4, 0], image[:, 4:, 1] = 200, 220
    as_it_is = Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "float32")
    plain = inference.Predictor(Majority(), as_it_is)({}, image, (2, 8))
    slid = inference.Predictor(Majority(), as_it_is, Views((2, 4), (2, 4)))({}, image, (2, 8))
    np.testing.assert_array_equal(plain, [[1] * 8] * 2)
    np.testing.assert_array_equal(slid, [[0] * 4 + [1] * 4] * 2)


def test_the_largest_view_settles_how_many_photos_run_together():
    photos, network = made_up_photos([(6, 8)] * 8), PixelNetwork()
    inference.Evaluator(network, photos, NORMALISE, pixels=8 * 48, views=Views(scales=(0.5, 1.0, 2.0)))(matrix())
    assert sorted(network.traced) == [(2, 3, 4, 3), (2, 6, 8, 3), (2, 12, 16, 3)]


@pytest.mark.parametrize("shown", [WHOLE, Views(flip=True), Views(scales=(1.0, 2.0))])
def test_probabilities_by_hand(shown):
    """Odds of 3 to 1 everywhere: 255 x 0.75 = 191.25, whatever views are averaged."""
    predictor = inference.Predictor(FixedLogits(np.full((2, 2, 2), [0.0, np.log(3)])), NORMALISE, shown)
    for of_classes, expected in ((True, [64, 191]), (False, 191)):
        found = predictor.probable({}, np.zeros((4, 4, 3), np.uint8), (4, 4), of_classes)
        assert (found.label == 1).all()
        np.testing.assert_array_equal(found.probability, np.broadcast_to(expected, found.probability.shape))
