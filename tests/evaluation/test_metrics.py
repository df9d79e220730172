"""mdp_jax/evaluation/metrics.py: scores worked out by hand and naive loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.evaluation import metrics

CLASSES = ["sky", "road", "car"]


def loop_confusion(label, prediction, num_classes):
    """[C + 1, C + 1]; the ids are all classes, or negative in the truth."""
    counts = [[0] * (num_classes + 1) for _ in range(num_classes + 1)]
    for truth, guess in zip(label.reshape(-1).tolist(), prediction.reshape(-1).tolist(), strict=True):
        if truth >= 0:
            counts[truth][guess] += 1
    return np.array(counts)


def with_no_strangers(counts):
    """A [C, C] matrix of hand-written counts with the empty row and column of ids that are no class."""
    return np.pad(np.array(counts), (0, 1))


def test_confusion_of_six_pixels():
    label = jnp.array([[0, 0, 1], [2, -1, 1]], jnp.int16)
    prediction = jnp.array([[0, 1, 1], [0, 2, 1]], jnp.int32)
    counts = metrics.confusion(label, prediction, 3)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, with_no_strangers([[1, 1, 0], [0, 2, 0], [1, 0, 0]]))


@pytest.mark.parametrize("num_classes", [1, 4, 341])
def test_confusion_equals_a_loop_over_pixels(num_classes):
    rng = np.random.default_rng(num_classes)
    label = rng.integers(-1, num_classes, (2, 17, 23)).astype(np.int16)
    prediction = rng.integers(0, num_classes, (2, 17, 23)).astype(np.int32)
    counts = jax.jit(metrics.confusion, static_argnums=2)(label, prediction, num_classes)
    np.testing.assert_array_equal(counts, loop_confusion(label, prediction, num_classes))


def test_confusion_never_counts_an_id_out_of_range_for_another_class():
    label = jnp.array([0, 1, 2, 3, 250, -1, -7, 1], jnp.int16)
    prediction = jnp.array([0, 2, 2, 0, 1, 1, 1, -1], jnp.int32)
    expected = [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]
    np.testing.assert_array_equal(metrics.confusion(label, prediction, 3), expected)


def test_confusion_of_a_large_map_does_not_lose_counts():
    # Beyond 2^24 a float32 counter stops.
    label = jnp.zeros((2**24 + 3,), jnp.int8)
    assert metrics.confusion(label, label, 1)[0, 0] == 2**24 + 3


def test_confusion_of_two_shapes_is_an_error():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        metrics.confusion(jnp.zeros((2, 3), jnp.int16), jnp.zeros((3, 2), jnp.int32), 2)


def test_scores_by_hand():
    # sky: 6 of 8 right, 2 false; road: 3 of 4 right, 2 false; car: 0 of 2 right, 1 false.
    scores = metrics.scores(with_no_strangers([[6, 1, 1], [1, 3, 0], [1, 1, 0]]), CLASSES)
    assert scores["per_class"] == pytest.approx({"sky": 100 * 6 / 10, "road": 100 * 3 / 6, "car": 0.0})
    assert scores["mIoU"] == pytest.approx((60 + 50 + 0) / 3)
    assert scores["mAcc"] == pytest.approx((75 + 75 + 0) / 3)
    assert scores["aAcc"] == pytest.approx(100 * 9 / 14)


def test_scores_leave_out_a_class_absent_from_truth_and_prediction():
    scores = metrics.scores(with_no_strangers([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), CLASSES)
    assert scores["per_class"]["car"] is None
    assert scores["mIoU"] == pytest.approx((75 + 80) / 2)
    assert scores["mAcc"] == pytest.approx((75 + 100) / 2)
    assert scores["aAcc"] == pytest.approx(100 * 7 / 8)


def test_scores_of_a_class_predicted_but_never_true():
    scores = metrics.scores(with_no_strangers([[3, 0, 1], [0, 4, 0], [0, 0, 0]]), CLASSES)
    assert scores["per_class"]["car"] == 0.0
    assert scores["mIoU"] == pytest.approx((75 + 100 + 0) / 3)
    assert scores["mAcc"] == pytest.approx((75 + 100) / 2)


def test_scores_of_a_class_true_but_never_predicted():
    scores = metrics.scores(with_no_strangers([[4, 0, 0], [0, 4, 0], [0, 2, 0]]), CLASSES)
    assert scores["per_class"]["car"] == 0.0
    assert scores["mIoU"] == pytest.approx((100 + 100 * 4 / 6 + 0) / 3)
    assert scores["mAcc"] == pytest.approx((100 + 100 + 0) / 3)


def test_scores_with_ids_that_are_no_class():
    # As MMSegmentation's histograms: truth 0 predicted as a stranger still is a pixel of class 0 that was missed, and
    # a stranger predicted as 1 still is a pixel that class 1 claims.
    scores = metrics.scores(np.array([[3, 0, 1], [0, 4, 0], [0, 2, 5]]), ["sky", "road"])
    assert scores["per_class"] == pytest.approx({"sky": 100 * 3 / 4, "road": 100 * 4 / 6})
    assert scores["aAcc"] == pytest.approx(100 * 7 / 8)


def test_scores_of_nothing_but_ignored_pixels_are_none():
    label = np.full((4, 4), -1, np.int16)
    counts = metrics.confusion(label, np.zeros((4, 4), np.int32), 3)
    found = metrics.scores(np.asarray(counts), CLASSES)
    assert {"mIoU", "mAcc", "aAcc", "mPrecision", "mDice", "per_class", "per_class_dice"} <= found.keys()
    for value in found.values():
        assert value in (None, {"sky": None, "road": None, "car": None})


def test_scores_equal_sets_of_pixels():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(-1, 5, 400), rng.integers(0, 5, 400)
    label[label == 3] = 2  # class 3 is predicted but never true
    scores = metrics.scores(loop_confusion(label, prediction, 5), list("abcde"))
    kept = set(np.flatnonzero(label >= 0).tolist())
    for index, name in enumerate("abcde"):
        true = {i for i in kept if label[i] == index}
        guessed = {i for i in kept if prediction[i] == index}
        assert scores["per_class"][name] == pytest.approx(100 * len(true & guessed) / len(true | guessed))


def test_scores_of_another_number_of_classes_is_an_error():
    with pytest.raises(ValueError, match="2 classes"):
        metrics.scores(np.zeros((2, 2), int), ["a", "b"])


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([[5, 0, 0], [0, 4, 0], [0, 1, 2]], ""),
        ([[5, 0, 0], [3, 4, 0], [0, 1, 0]], "never predicted: car"),
        ([[5, 0, 0], [3, 4, 0], [0, 0, 0]], ""),  # no car is there
        ([[5, 0, 0], [3, 0, 0], [2, 0, 0]], "predicts one class only: sky"),
        ([[0, 2, 0], [0, 0, 0], [0, 0, 0]], "never predicted: sky"),  # one class alone is true
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], ""),
    ],
)
def test_what_predictions_lack(counts, said):
    assert metrics.one_sided(with_no_strangers(counts), CLASSES) == said


def test_many_classes_that_are_never_predicted_are_counted():
    counts = np.zeros((21, 21), np.int64)
    counts[:20, 0] = counts[1, 1] = 1
    said = metrics.one_sided(counts, [f"c{i}" for i in range(20)])
    assert said.startswith("never predicted: c2, c3, ") and said.endswith("c13 and 6 more")
