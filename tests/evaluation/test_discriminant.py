"""Classifiers in closed form: against loops over features, by hand, in any order."""

import tracemalloc

import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant
from mdp_jax.evaluation.discriminant import Statistics

CLASSES, DIM = 4, 5


def photos(count=6, seed=0, only=None):
    """Features [N, D] and shares [N, C] of some photos; class 3 has no pixel, and class 2 is in photo `only` alone."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, DIM)) * 3
    found = []
    for number in range(count):
        ids = rng.integers(-1, 3 if only in (None, number) else 2, 40)
        features = (rng.normal(size=(40, DIM)) + centres[np.maximum(ids, 0)]).astype(np.float32)
        weights = np.zeros((40, CLASSES))
        weights[np.flatnonzero(ids >= 0), ids[ids >= 0]] = rng.choice([0.25, 0.5, 1.0], (ids >= 0).sum())
        found.append((features, weights))
    return found


def counted(samples):
    statistics = Statistics.empty(CLASSES, DIM)
    for number, (features, weights) in enumerate(samples):
        statistics.add(features, weights, number)
    return statistics


def test_statistics_and_the_discriminant_against_loops():
    samples, found = photos(), counted(photos())
    rows = [
        (x.astype(np.float64), c, weights[i, c])
        for features, weights in samples
        for i, x in enumerate(features)
        for c in range(CLASSES)
        if weights[i, c]
    ]
    weight = [sum(w for _, c, w in rows if c == k) for k in range(CLASSES)]
    means = [
        sum(w * x for x, c, w in rows if c == k) / weight[k] if weight[k] else np.zeros(DIM) for k in range(CLASSES)
    ]
    within = sum(w * np.outer(x - means[c], x - means[c]) for x, c, w in rows) / sum(weight)
    np.testing.assert_allclose(found.weight, weight)
    np.testing.assert_allclose(found.means(), means, atol=1e-10)
    np.testing.assert_allclose(found.within(), within, atol=1e-9)
    assert found.photos.tolist() == [sum(w[:, k].any() for _, w in samples) for k in range(CLASSES)]
    head = discriminant.linear_discriminant(found, shrinkage=0.05)
    inverse = np.linalg.inv(within + 0.05 * np.trace(within) / DIM * np.eye(DIM))
    x = samples[0][0].astype(np.float64)
    for k in range(3):
        expected = x @ inverse @ means[k] - means[k] @ inverse @ means[k] / 2 + np.log(weight[k] / sum(weight))
        np.testing.assert_allclose(x @ head.kernel[:, k] + head.bias[k], expected, rtol=1e-6)


@pytest.mark.parametrize("only", [None, 1])
def test_photos_left_out_against_loops(only):
    """Each photo's features under Gaussians whose means are those of the other photos, or its own where none has it."""
    samples, found = photos(only=only), counted(photos(only=only))
    shrinkages = (1e-3, 0.1, 2.0)
    likelihood = discriminant.left_out_likelihood(found, shrinkages)
    within, target = found.within(), np.eye(DIM) * np.trace(found.within()) / DIM
    naive = []
    for shrinkage in shrinkages:
        regular = within + shrinkage * target
        inverse, total = np.linalg.inv(regular), 0.0
        for i, (features, weights) in enumerate(samples):
            for k in range(3):
                others = [(x, w) for j, (x, w) in enumerate(samples) if j != i and w[:, k].any()] or [samples[i]]
                weight = sum(w[:, k].sum() for _, w in others)
                mean = sum(w[:, k] @ x.astype(np.float64) for x, w in others) / weight
                apart = features - mean
                of_each = np.einsum("nd,de,ne->n", apart, inverse, apart) + np.linalg.slogdet(regular)[1]
                total -= (weights[:, k] * of_each).sum() / 2
        naive.append(total)
    # Both leave out a constant, which is the same for every shrinkage.
    np.testing.assert_allclose(np.diff(likelihood), np.diff(naive), rtol=1e-6)
    every = discriminant.left_out_likelihood(found, discriminant.SHRINKAGES)
    best = discriminant.SHRINKAGES.index(discriminant.chosen_shrinkage(found))
    assert every[best] == every.max() > every.min() + 1


def test_the_first_photos_are_those_that_are_left_out(monkeypatch):
    monkeypatch.setattr(discriminant, "_LEFT_OUT", 2)
    assert sorted(counted(photos(4)).of_photos) == [0, 1]


def test_nothing_to_choose_a_shrinkage_by():
    assert discriminant.chosen_shrinkage(counted(photos(1))) == discriminant.FIXED


def test_the_scale_of_a_layer_does_not_matter():
    """Two layers, one of which has features a thousand times as large: the logits stay."""
    samples, logits = photos(), []
    for scale in (1.0, 1000.0):
        factors = np.array([1.0, 1.0, scale, scale, scale])
        statistics = Statistics.empty(CLASSES, 2, 3)
        for number, (features, weights) in enumerate(samples):
            statistics.add(features * factors, weights, number)
        head = discriminant.linear_discriminant(statistics, 0.3)
        logits.append(samples[0][0] * factors @ head.kernel + head.bias)
    np.testing.assert_allclose(*logits, rtol=1e-8)


def test_a_large_photo_of_many_classes_in_little_memory():
    """3000 x 4000 pixels, 342 classes: all shares at once would be half a gigabyte."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.repeat(rng.integers(-1, 342, (60, 80), dtype=np.int16), 50, 0), 50, 1)
    features = rng.normal(size=(375, 500, 4)).astype(np.float32)
    statistics = Statistics.empty(342, 4)
    tracemalloc.start()
    statistics.add_photo(features, label, 0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 150 * 2**20
    assert statistics.weight.sum() == pytest.approx((label >= 0).sum() / 64)


@pytest.mark.parametrize("size", [(30, 50), (4, 5), (31, 17)])
def test_bands_of_a_photo_are_the_whole_photo(size, monkeypatch):
    rng = np.random.default_rng(0)
    label, features = rng.integers(-1, 3, size), rng.normal(size=(7, 6, DIM))
    whole = Statistics.empty(3, DIM)
    whole.add(features.reshape(-1, DIM), discriminant.shares_of_cells(label, (7, 6), 3), 0)
    monkeypatch.setattr(discriminant, "_TOGETHER", 12)  # two rows of cells
    banded = Statistics.empty(3, DIM)
    banded.add_photo(features, label, 0)
    for name in ("weight", "first", "second", "directions"):
        np.testing.assert_allclose(getattr(banded, name), getattr(whole, name), atol=1e-6)


def test_any_order_of_photos_gives_the_same_to_rounding():
    samples = photos(12)
    one, other = counted(samples), Statistics.empty(CLASSES, DIM)
    for number in reversed(range(len(samples))):
        other.add(*samples[number], number)
    assert discriminant.chosen_shrinkage(one) == discriminant.chosen_shrinkage(other)
    for head in (discriminant.linear_discriminant, lambda s: discriminant.nearest_prototypes(s, 0.1)):
        np.testing.assert_allclose(head(one).kernel, head(other).kernel, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frequencies", [True, False])
def test_it_separates_what_can_be_separated_and_never_says_an_unseen_class(frequencies):
    samples = photos(20)
    head = discriminant.linear_discriminant(counted(samples), frequencies=frequencies)
    features, weights = samples[0]
    labelled = weights.sum(1) > 0
    logits = features @ head.kernel + head.bias
    assert (logits[labelled].argmax(1) == weights[labelled].argmax(1)).mean() > 0.9
    assert (logits.argmax(1) != 3).all() and np.isfinite(head.kernel).all() and np.isfinite(head.bias).all()


def test_a_frequent_class_is_more_likely_only_with_frequencies():
    """Two classes of one variance, one of them nine times as frequent: the border moves by log(9) / distance."""
    statistics = Statistics.empty(2, 1)
    noise = np.array([[-1.0], [1.0]])
    for centre, weight in ((0.0, 9.0), (4.0, 1.0)):
        shares = np.zeros((2, 2))
        shares[:, int(centre > 0)] = weight
        statistics.add(centre + noise, shares, 0)
    borders = []
    for frequencies in (False, True):
        head = discriminant.linear_discriminant(statistics, shrinkage=1e-12, frequencies=frequencies)
        borders.append(float((head.bias[0] - head.bias[1]) / (head.kernel[0, 1] - head.kernel[0, 0])))
    np.testing.assert_allclose(borders, [2.0, 2.0 + np.log(9) / 4], rtol=1e-6)


def test_prototypes_are_the_two_step_average():
    samples = photos(3)
    head = discriminant.nearest_prototypes(counted(samples), temperature=0.5)
    for k in range(3):
        total = np.zeros(DIM)
        for features, weights in samples:
            units = features / np.linalg.norm(features, axis=1, keepdims=True)
            mean = (weights[:, k, None] * units).sum(0)
            total += mean / np.linalg.norm(mean)
        np.testing.assert_allclose(head.kernel[:, k], total / np.linalg.norm(total) / 0.5, rtol=1e-5)
    assert head.bias[3] == discriminant.NEVER


def test_shares_of_cells_by_hand():
    label = np.array([[0, 0, 1, -1], [0, 2, 1, 1], [-1, -1, 2, 2]])
    found = discriminant.shares_of_cells(label, (2, 2), 3)
    # The rows 0 and 1 are of the first cells, row 2 of the others.
    np.testing.assert_allclose(found, [[0.75, 0, 0.25], [0, 0.75, 0], [0, 0, 0], [0, 0, 1.0]])
    assert discriminant.shares_of_cells(np.full((2, 3), 1), (4, 4), 2)[:, 1].sum() > 0  # more cells than pixels


def test_a_photo_without_labels_changes_nothing():
    samples = photos(2)
    before, after = counted(samples), counted([*samples, (samples[0][0], np.zeros((40, CLASSES)))])
    np.testing.assert_array_equal(before.second, after.second)
    assert before.photos.tolist() == after.photos.tolist()


def test_a_classifier_that_is_not_finite_is_refused():
    statistics = counted(photos())
    with pytest.raises(UserError, match=r"values that are not finite; .*--shrinkage of about 0\.0001 to 1"):
        discriminant.linear_discriminant(statistics, np.nan)
    statistics.first[:] = statistics.second[:] = 1e38  # finite in float64 alone
    statistics.directions[:] = np.nan
    with pytest.raises(UserError, match="not finite"):
        discriminant.nearest_prototypes(statistics, 0.1)
