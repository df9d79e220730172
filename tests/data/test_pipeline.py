import contextlib
import itertools

import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data.batches import mixture
from mdp_jax.data.batches.pipeline import Places, finetune_batches, pretrain_batches, pretrain_schedule
from mdp_jax.data.label_space import LabelSpace, build
from mdp_jax.data.sources import open_source
from mdp_jax.errors import UserError
from tests.data.fixtures import MemorySource, numbered_source, write_folder

GREY = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def _config(make=base.pretrain, **changes):
    """A small config; the photometric distortion is off, so that a numbered photo keeps its number as its grey."""
    config = make()
    config.data.crop, config.batch, config.data.photometric = (8, 12), 8, GREY
    config.update_from_flattened_dict(changes)
    return config


def _sources(lengths=(4, 2, 2)):
    """Photo i of dataset d is of grey 100 d + i."""
    return [numbered_source(f"set{d}", 2 + d, n, first=100 * d) for d, n in enumerate(lengths)]


def _noise_sources(photos=5):
    rng = np.random.default_rng(0)
    sources = []
    for name in ("a", "b"):
        pictures = rng.integers(0, 256, (photos, 20, 30, 3)).astype(np.uint8)
        labels = rng.integers(-1, 3, (photos, 20, 30)).astype(np.int16)
        sources.append(MemorySource(name, ("x", "y", "z"), list(zip(pictures, labels, strict=True))))
    return sources


def _take(config, sources, count, start=0, **process):
    batches = pretrain_batches(config, sources, build(sources), start_batch=start, **process)
    return _first(batches, count)


def _first(batches, count):
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def _assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], strict=True)


def test_pretrain_batch_form():
    (batch,) = _take(_config(), _noise_sources(), 1)
    forms = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert forms == {
        "image": ((8, 8, 12, 3), "uint8"),
        "label": ((8, 8, 12), "int16"),
        "key_image": ((8, 8, 12, 3), "uint8"),
        "key_label": ((8, 8, 12), "int16"),
        "dataset": ((8,), "int32"),
        "mix_kind": ((4,), "int32"),
        "lam": ((4,), "float32"),
        "box": ((4, 4), "int32"),
    }


def test_pairs_follow_the_schedule():
    config, sources = _config(), _sources()
    schedule = pretrain_schedule(config, sources)
    batches = _take(config, sources, 50, start=7)
    kinds = np.concatenate([batch["mix_kind"] for batch in batches])
    datasets = np.concatenate([batch["dataset"] for batch in batches]).reshape(-1, 2)
    assert kinds.tolist() == [schedule.kind(j) for j in range(7 * 4, 57 * 4)]
    assert datasets.ravel().tolist() == [schedule[i][0] for i in range(7 * 8, 57 * 8)]
    assert (datasets[kinds != mixture.PLAIN, 0] != datasets[kinds != mixture.PLAIN, 1]).all()
    assert set(kinds) == {0, 1, 2}
    (other,) = _take(_config(**{"mixing.beta": 0.25}), sources, 1, start=7)
    for batch, beta in ((batches[0], 1.0), (other, 0.25)):
        expected = [mixture.pair_mixing(schedule, 28 + j, (8, 12), beta, config.seed) for j in range(4)]
        assert batch["lam"].tolist() == [np.float32(lam) for _, lam, _ in expected]
        assert batch["box"].tolist() == [list(box) for _, _, box in expected]


def test_the_schedule_is_that_of_the_config():
    """Sets of 16 photos and 1: 4 to 1 at a temperature of 2. Rows of the schedule take the place of these weights."""
    sources, shares = _sources((16, 1)), {"mixing.region": 0.5, "mixing.pixel": 0.125}
    found = mixture.shares(pretrain_schedule(_config(mixture_temperature=2.0, **shares), sources))
    # The second member of a mixed pair is of the other set: so half of the mixed samples are of each.
    np.testing.assert_allclose([found[kind] for kind in ("plain", "region", "pixel")], [3 / 8, 1 / 2, 1 / 8], atol=1e-4)
    first = 3 / 8 * 4 / 5 + 5 / 8 / 2
    np.testing.assert_allclose(found["datasets"], [first, 1 - first], atol=1e-4)
    given = _config(mixture_schedule=((0, 1, 3),), mixture_weights=(1, 1), **{"mixing.region": 0, "mixing.pixel": 0})
    np.testing.assert_allclose(mixture.shares(pretrain_schedule(given, sources))["datasets"], [1 / 4, 3 / 4], atol=1e-4)


def test_sets_of_one_length_are_shuffled_by_themselves():
    batches = _take(_config(), _sources((60, 60)), 8)
    drawn = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches]).astype(int)
    first, second = ([n % 100 for n in drawn.tolist() if n // 100 == dataset] for dataset in (0, 1))
    shared = min(len(first), len(second))
    assert shared > 15 and first[:shared] != second[:shared]


def test_views_of_a_photo_depend_on_the_seed():
    """Of a single photo, so that its order is the same."""
    (source, _), made = _noise_sources(photos=1), {}
    for seed in (0, 1):
        made[seed] = [
            *_take(_config(seed=seed), [source], 1),
            *_first(finetune_batches(_config(base.finetune, seed=seed), source, start_batch=0), 1),
        ]
    for one, other in zip(made[0], made[1], strict=True):
        assert all(not np.array_equal(*pair) for pair in zip(one["image"], other["image"], strict=True))


def test_labels_are_global_and_views_show_one_photo():
    offsets = [0, 2, 5]
    for batch in _take(_config(), _sources(), 20):
        for i, dataset in enumerate(batch["dataset"]):
            photo = int(batch["image"][i, 0, 0, 0]) - 100 * dataset
            assert (batch["image"][i] == 100 * dataset + photo).all()
            assert (batch["label"][i] == offsets[dataset] + photo % (2 + dataset)).all()
            np.testing.assert_array_equal(batch["key_image"][i], batch["image"][i])
            np.testing.assert_array_equal(batch["key_label"][i], batch["label"][i])


def test_merged_labels_are_looked_up():
    """The two classes of the second set are the last and the first of the first."""
    sources = [numbered_source("a", 2, 2), numbered_source("b", 2, 2, first=100)]
    sources[0].classes, sources[1].classes = ("sky", "car"), ("Car", "sky")
    batches = pretrain_batches(_config(), sources, build(sources, "merged"), start_batch=0)
    for batch in _first(batches, 4):
        for image, label, dataset in zip(batch["image"], batch["label"], batch["dataset"], strict=True):
            photo = int(image[0, 0, 0]) - 100 * dataset
            assert (label == (photo if dataset == 0 else 1 - photo)).all()


def test_key_view_of_an_unlabelled_photo_has_the_geometry_of_its_query_view():
    labelled, unlabelled = _noise_sources()
    unlabelled.classes = ()
    unlabelled._samples = [(image, np.full_like(label, -1)) for image, label in unlabelled._samples]
    (batch,) = _take(_config(batch=16), [labelled, unlabelled], 1)
    (distorted,) = _take(
        _config(batch=16, **{"data.photometric": base.pretrain().data.photometric.to_dict()}),
        [labelled, unlabelled],
        1,
    )
    assert set(batch["dataset"]) == {0, 1}
    for i, dataset in enumerate(batch["dataset"]):
        # Without distortion the crop and the flip are all that can differ.
        assert np.array_equal(batch["image"][i], batch["key_image"][i]) == (dataset == 1)
    of_unlabelled = distorted["dataset"] == 1
    views = zip(distorted["image"][of_unlabelled], distorted["key_image"][of_unlabelled], strict=True)
    assert sum(not np.array_equal(*pair) for pair in views) > 1, "distorted alike"
    assert (batch["label"][batch["dataset"] == 1] == -1).all()


def test_stages_draw_from_their_own_sets():
    """Of 10 steps the first stage takes 8, for 16 of 20 photos; mixed pairs need two sets."""
    config = _config(steps=10, batch=64, stages=(("set2", "set0"), ("set1",)))
    batches = _take(config, _sources((12, 4, 4)), 10)
    drawn = [sorted(set(batch["dataset"].tolist())) for batch in batches]
    assert drawn == [[0, 2]] * 8 + [[1]] * 2
    kinds = np.array([batch["mix_kind"] for batch in batches])
    assert (kinds[:8] != mixture.PLAIN).any() and (kinds[8:] == mixture.PLAIN).all()
    first = np.concatenate([batch["dataset"] for batch in batches[:8]])
    assert (first == 0).sum() > (first == 2).sum() > 0


def test_views_are_augmented_independently():
    (batch,) = _take(_config(), _noise_sources(), 1)
    for i in range(8):
        assert not np.array_equal(batch["image"][i], batch["key_image"][i])
        assert not np.array_equal(batch["label"][i], batch["key_label"][i])


def _epochs(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[i : i + size] for i in range(0, len(numbers) - size + 1, size)]


def test_epochs_of_each_set_are_permutations():
    batches = _take(_config(), _sources((4, 2, 3)), 60)
    drawn = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches]).astype(int)
    for dataset, size in enumerate((4, 2, 3)):
        epochs = _epochs([n - 100 * dataset for n in drawn if n // 100 == dataset], size)
        assert len(epochs) > 20
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 1


def test_batches_do_not_depend_on_start_threads_or_processes():
    for photometric in (GREY, base.pretrain().data.photometric.to_dict()):
        config, sources = _config(), _noise_sources()
        config.data.photometric = photometric
        expected = _take(config, sources, 6)
        _assert_same(_take(config, sources, 3, start=3), expected[3:])
        for threads in (1, 4):
            config.data.threads = threads
            _assert_same(_take(config, sources, 6), expected)
        blocks = [_take(config, sources, 6, process_index=p, process_count=2) for p in range(2)]
        joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*blocks, strict=True)]
        _assert_same(joined, expected)


PHASES = {"mixture_schedule": ((0, 1, 1, 2), (3, 3, 1, 0), (6, 1, 1, 1)), "mixing.start": 2}


def test_weights_and_mixing_change_at_their_steps():
    batches = _take(_config(**PHASES, batch=64), _sources(), 8)
    kinds = np.array([batch["mix_kind"] for batch in batches])
    counts = np.array([np.bincount(batch["dataset"], minlength=3) for batch in batches])
    assert (kinds[:2] == mixture.PLAIN).all() and (kinds[2:] != mixture.PLAIN).any(axis=1).all()
    assert (counts[3:6, 2] == 0).all() and (counts[[0, 1, 2, 6, 7], 2] > 0).all()
    given = _take(_config(mixture_weights=(0, 0.5, 1), batch=64), _sources(), 3)
    assert [np.unique(batch["dataset"]).tolist() for batch in given] == [[1, 2]] * 3


def test_batches_of_a_schedule_do_not_depend_on_start_threads_or_processes():
    config, sources = _config(**PHASES), _sources()
    expected = _take(config, sources, 8)
    for start in (2, 3, 7):
        _assert_same(_take(config, sources, 8 - start, start=start), expected[start:])
    config.data.threads = 4
    _assert_same(_take(config, sources, 8), expected)
    blocks = [_take(config, sources, 8, process_index=p, process_count=2) for p in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*blocks, strict=True)]
    _assert_same(joined, expected)


def test_processes_whose_devices_do_not_stand_together_read_their_own_samples():
    """A mesh gives process 0 the first, fourth and last part of each batch: sample i of the batch stays sample i."""
    config, sources = _config(batch=24), _noise_sources()
    expected, own = _take(config, sources, 4), ((0, 3, 5), (1, 2, 4))
    blocks = [_take(config, sources, 2, start=2, places=Places(places, 6)) for places in own]
    for number, halves in enumerate(zip(*blocks, strict=True)):
        for key, whole in expected[2 + number].items():
            joined = np.empty_like(whole).reshape(6, -1, *whole.shape[1:])
            for places, half in zip(own, halves, strict=True):
                joined[list(places)] = half[key].reshape(3, -1, *whole.shape[1:])
            np.testing.assert_array_equal(joined.reshape(whole.shape), whole, err_msg=key)


def test_epochs_are_permutations_across_phases():
    batches = _take(_config(**PHASES), _sources((5, 3, 2)), 60)
    drawn = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches]).astype(int)
    for dataset, size in enumerate((5, 3, 2)):
        epochs = _epochs([n - 100 * dataset for n in drawn if n // 100 == dataset], size)
        assert len(epochs) > 20
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)


def test_another_seed_gives_other_batches():
    first, second = (_take(_config(seed=seed), _noise_sources(), 1)[0] for seed in (0, 1))
    assert not np.array_equal(first["image"], second["image"])


def test_iterator_state_counts_batches():
    sources = _noise_sources()
    with contextlib.closing(pretrain_batches(_config(), sources, build(sources), start_batch=5)) as batches:
        next(batches)
        assert batches.get_state() == {"next_index": 6}


def test_one_small_dataset_repeats_and_is_not_mixed():
    batches = _take(_config(batch=16), _sources((1,)), 3)
    for batch in batches:
        assert (batch["image"] == 0).all()
        assert (batch["mix_kind"] == 0).all() and (batch["lam"] == 1).all() and (batch["box"] == 0).all()


def test_ignored_photo_passes():
    ignored = MemorySource("a", ("x",), [(np.zeros((9, 9, 3), np.uint8), np.full((9, 9), -1, np.int16))])
    (batch,) = _take(_config(), [ignored, numbered_source("b", 2, 2)], 1)
    assert (batch["label"][batch["dataset"] == 0] == -1).all()
    (batch,) = _first(finetune_batches(_config(base.finetune), ignored, start_batch=0), 1)
    assert (batch["label"] == -1).all()


def test_unreadable_file_ends_the_run_with_its_name(tmp_path):
    folder = write_folder(tmp_path / "set")
    (folder / "images" / "train" / "p1.jpg").write_bytes(b"?")
    config = _config(base.finetune)
    source = open_source(base.folder("mine", "set"), config.data, str(tmp_path), "train", 0)
    with pytest.raises(UserError, match=r"p1\.jpg is unreadable") as error:
        _first(finetune_batches(config, source, start_batch=0), 3)
    assert "\n" not in str(error.value)


def test_folder_and_synthetic_sources_meet(tmp_path):
    write_folder(tmp_path / "set")
    config = _config(**{"data.cache": True, "data.short_side": 16})
    kinds = (base.folder("mine", "set"), base.synthetic("town", images=3, size=(24, 32)))
    sources = [open_source(kind, config.data, str(tmp_path), "train", 0) for kind in kinds]
    space = build(sources)
    for batch in _take(config, sources, 4):
        for dataset, (low, high) in enumerate(((0, 3), (3, space.num_classes))):
            labels = batch["label"][batch["dataset"] == dataset]
            assert ((labels == -1) | ((labels >= low) & (labels < high))).all()


def test_finetune_batches():
    config, source = _config(base.finetune), numbered_source("a", 3, 5, first=10)
    batches = _first(finetune_batches(config, source, start_batch=0), 10)
    assert {key: (value.shape, value.dtype.name) for key, value in batches[0].items()} == {
        "image": ((8, 8, 12, 3), "uint8"),
        "label": ((8, 8, 12), "int16"),
    }
    drawn = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches]) - 10
    assert all(sorted(epoch) == list(range(5)) for epoch in _epochs(drawn.tolist(), 5))
    for batch in batches:
        labels = batch["image"][..., 0].astype(int) - 10
        np.testing.assert_array_equal(batch["label"], labels % 3)


def test_finetune_batches_do_not_depend_on_start_threads_or_processes():
    config, source = _config(base.finetune, batch=4), _noise_sources()[0]
    expected = _first(finetune_batches(config, source, start_batch=0), 5)
    config.data.threads = 4
    _assert_same(_first(finetune_batches(config, source, start_batch=2), 3), expected[2:])
    blocks = [
        _first(finetune_batches(config, source, start_batch=0, process_index=p, process_count=4), 5) for p in range(4)
    ]
    steps = zip(*blocks, strict=True)
    joined = [{key: np.concatenate([part[key] for part in parts]) for key in parts[0]} for parts in steps]
    _assert_same(joined, expected)


def test_batch_of_one_sample():
    config = _config(base.finetune, batch=1)
    assert len(_first(finetune_batches(config, _sources()[0], start_batch=3), 2)) == 2


def test_label_space_of_other_sources():
    other = LabelSpace((("set0", ("class0", "class1")),))
    with pytest.raises(UserError, match="label space given to the pipeline: dataset 1 is missing, expected 'set1'"):
        pretrain_batches(_config(), _sources(), other, start_batch=0)
