"""Heads in closed form: their label maps are evaluation's, the draws of photos, values that cannot be."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.evaluation import closed_form, discriminant
from mdp_jax.evaluation.discriminant import Linear
from mdp_jax.models.network import most_likely


@pytest.mark.parametrize("size", [(40, 56), (13, 9)])
def test_label_maps_are_those_of_evaluation(size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 7, 3)).astype(np.float32)
    linear = Linear(rng.normal(size=(3, 6)), rng.normal(size=6))
    expected = most_likely(jnp.asarray(features[None] @ linear.kernel + linear.bias, jnp.float32), size)[0]
    found = closed_form._label_map(features, linear, size)
    assert (found != expected).mean() <= 0.002  # ties


def test_draws_are_nested_and_depend_on_the_seed_alone():
    few, more = (closed_form.draws_of(50, number, 3, 7) for number in (5, 20))
    assert [len(draw) for draw in few] == [5, 5, 5] and len({tuple(draw) for draw in few}) == 3
    assert all(set(one) < set(other) for one, other in zip(few, more, strict=True))
    assert [draw.tolist() for draw in few] != [draw.tolist() for draw in closed_form.draws_of(50, 5, 3, 8)]
    (everything,) = closed_form.draws_of(50, 0, 3, 7)
    assert everything.tolist() == list(range(50)) == closed_form.draws_of(50, 50, 3, 7)[0].tolist()
    with pytest.raises(UserError, match=r"--photos 51: expected at most 50, the number of labelled photos, or all"):
        closed_form.draws_of(50, 51, 3, 7)


@pytest.mark.parametrize("shrinkage", [0.0, -1.0, float("nan"), float("inf"), "best"])
def test_shrinkages_that_cannot_be(shrinkage):
    with pytest.raises(UserError, match=rf"--shrinkage {shrinkage}: expected more than 0, or auto"):
        closed_form.Head(shrinkage=shrinkage)


def test_whole_strides_keep_the_number_of_features():
    image = np.zeros((41, 48, 3), np.uint8)
    assert closed_form.at_whole_strides(image, 8).shape == (48, 48, 3)
    assert closed_form.at_whole_strides(image[:40], 8) is not None
    assert closed_form.at_whole_strides(image[:40], 8).shape == (40, 48, 3)


class Photos:
    """Photos whose number is in each of their pixels, all of two classes."""

    name, classes = "photos", ("left", "right")

    def __len__(self):
        return 12

    def __getitem__(self, index):
        label = np.zeros((4, 4), np.int16)
        label[:, 2:] = 1
        return {"image": np.full((4, 4, 3), index, np.uint8), "label": label}


class Net:
    """A network of stride 1 whose features are noise by the photo's number, and the place."""

    layers, model = ("backbone",), types.SimpleNamespace(output_stride=1)

    def channels(self, layers):
        return (3,)

    def features_as_they_are(self, photo, layers):
        features = np.random.default_rng(int(photo[0, 0, 0])).normal(size=(4, 4, 3))
        features[:, 2:, 0] += 1
        return features.astype(np.float32)


def test_photos_that_were_drawn_are_left_out_whatever_their_place_in_the_set(monkeypatch):
    """A head of few photos of a large set is that of a set of these photos alone."""
    monkeypatch.setattr(discriminant, "_LEFT_OUT", 4)
    counted = []

    def make(statistics):
        counted.append(statistics)
        return closed_form.Head().make(statistics)

    head = types.SimpleNamespace(make=make)
    closed_form.scores_of_budgets(Net(), Photos(), Photos(), ("backbone",), [4], 2, 0, head)
    for draw, statistics in zip(closed_form.draws_of(12, 4, 2, 0), counted, strict=True):
        alone = discriminant.Statistics.empty(2, 3)
        for number, index in enumerate(draw.tolist()):
            sample = Photos()[index]
            alone.add_photo(Net().features_as_they_are(sample["image"], ("backbone",)), sample["label"], number)
        likelihoods = (discriminant.left_out_likelihood(of, discriminant.SHRINKAGES) for of in (statistics, alone))
        np.testing.assert_allclose(*likelihoods, rtol=1e-10)


class Labelled(Photos):
    """Photos with labels of their own, a third of them ignored."""

    def __init__(self, first):
        self.first = first

    def __getitem__(self, index):
        number = self.first + index
        label = np.random.default_rng((1, number)).integers(-1, 2, (4, 4)).astype(np.int16)
        return {"image": np.full((4, 4, 3), number, np.uint8), "label": label}


class Told(Net):
    """A network whose features tell the classes of Labelled, but not well."""

    def features_as_they_are(self, photo, layers):
        number = int(photo[0, 0, 0])
        label = Labelled(0)[number]["label"][..., None]
        return (np.random.default_rng(number).normal(size=(4, 4, 3)) + label * [1.5, 0, 0]).astype(np.float32)


def test_scores_of_budgets_against_a_loop():
    """The head of a draw is made of its own training photos, and scored on all labelled pixels of the validation."""
    train, val, head = Labelled(0), Labelled(100), closed_form.Head(shrinkage=0.1, frequencies=False)
    found = closed_form.scores_of_budgets(Told(), train, val, ("backbone",), [3, 6, 0], 2, 7, head)
    assert list(found) == [3, 6, 0]
    for photos, scores in found.items():
        expected = []
        for draw in closed_form.draws_of(12, photos, 2, 7):
            statistics = discriminant.Statistics.empty(2, 3)
            for index in draw.tolist():
                features, label = Told().features_as_they_are(train[index]["image"], ()), train[index]["label"]
                shares = (label.reshape(-1, 1) == np.arange(2)).astype(float)
                statistics.add(features.reshape(-1, 3), shares, index)
            linear = discriminant.linear_discriminant(statistics, 0.1, frequencies=False)
            truth, guess = [], []
            for index in range(len(val)):
                logits = Told().features_as_they_are(val[index]["image"], ()) @ linear.kernel + linear.bias
                known = val[index]["label"] >= 0
                truth += val[index]["label"][known].tolist()
                guess += logits.argmax(-1)[known].tolist()
            pairs = list(zip(truth, guess, strict=True))
            ious = [pairs.count((c, c)) / sum(c in pair for pair in pairs) for c in range(2)]
            expected.append(100 * np.mean(ious))
        np.testing.assert_allclose(scores, expected, rtol=1e-9)
    assert len({round(score, 6) for scores in found.values() for score in scores}) == 5, "nothing to compare"


def test_heads_are_made_as_they_say():
    statistics = closed_form.statistics_of(Told(), Labelled(0), ("backbone",))
    made = closed_form.Head("prototypes").make(statistics)
    assert made.shrinkage is None
    np.testing.assert_allclose(made.linear.kernel, discriminant.prototypes(statistics).T / 0.1)
    for frequencies in (True, False):
        made = closed_form.Head(frequencies=frequencies).make(statistics)
        expected = discriminant.linear_discriminant(
            statistics, discriminant.chosen_shrinkage(statistics), frequencies=frequencies
        )
        np.testing.assert_array_equal(made.linear.bias, expected.bias)
        assert made.shrinkage == discriminant.chosen_shrinkage(statistics)


def test_labelled_photos_are_enlarged_to_whole_strides_and_have_the_labels_of_the_set():
    seen = []

    class Strided(Net):
        model = types.SimpleNamespace(output_stride=8)

        def features_as_they_are(self, photo, layers):
            seen.append(photo.shape)
            return np.zeros((photo.shape[0] // 8, photo.shape[1] // 8, 3), np.float32)

    statistics = discriminant.Statistics.empty(2, 3)
    sample = {"image": np.zeros((9, 16, 3), np.uint8), "label": np.zeros((9, 16), np.int16)}
    closed_form.add_photo(Strided(), ("backbone",), sample, 0, [(statistics, 0)])
    assert seen == [(16, 16, 3)] and statistics.weight.tolist() == [4, 0]
    photos = Photos()
    photos.describe = lambda index: f"photo {index}"
    assert closed_form.labelled(photos, 0)["label"].max() == 1
    photos.classes = ("left",)
    with pytest.raises(UserError, match="photo 0: label 1; expected ids below 1, or ignore"):
        closed_form.labelled(photos, 0)
