"""Losses of fine-tuning: values by hand, naive NumPy of the published formulas, and degenerate batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method.segmentation_losses import (
    LOSSES,
    MEANS,
    SegmentationLoss,
    accuracy,
    dice,
    effective_frequencies,
    hard_pixels,
    inverse_frequencies,
    segmentation_loss,
)

CLASSES = 4
WEIGHTS = (0.5, 2.0, 0.0, 1.5)
OPTIONS = [
    SegmentationLoss(),
    SegmentationLoss(class_weights=WEIGHTS),
    SegmentationLoss(label_smoothing=0.1),
    SegmentationLoss(class_weights=WEIGHTS, label_smoothing=0.1),
    SegmentationLoss(ohem_threshold=0.3, ohem_kept=5),
    SegmentationLoss(ohem_threshold=0.01, ohem_kept=5),
    SegmentationLoss(class_weights=WEIGHTS, ohem_threshold=0.3, ohem_kept=1),
    SegmentationLoss("focal"),
    SegmentationLoss("focal", class_weights=WEIGHTS, focal_gamma=0.5, focal_alpha=0.25),
    SegmentationLoss(dice_weight=3.0),
]


def batch():
    """Logits and labels of two images, 3 x 4: a third of the pixels ignored, no pixel of class 3."""
    rng = np.random.default_rng(0)
    label = rng.integers(-1, CLASSES - 1, (2, 3, 4))
    assert set(np.unique(label)) == {-1, 0, 1, 2}
    return 3 * rng.standard_normal((2, 3, 4, CLASSES)), label


def naive(logits, label, options):
    """The formulas pixel by pixel, in float64: the loss and its divisor."""
    own_probability = [
        (np.exp(x) / np.exp(x).sum())[y]
        for x, y in zip(logits.reshape(-1, CLASSES), label.ravel(), strict=True)
        if y >= 0
    ]
    rising = sorted(own_probability)
    limit = max(rising[min(options.ohem_kept * len(label), len(rising) - 1)], options.ohem_threshold)
    weights = options.class_weights or (1.0,) * CLASSES
    total = divisor = 0.0
    common, both, true = np.zeros(CLASSES), np.zeros(CLASSES), np.zeros(CLASSES)
    for x, y in zip(logits.reshape(-1, CLASSES), label.ravel(), strict=True):
        if y < 0:
            divisor += options.mean == "all"
            continue
        p = np.exp(x) / np.exp(x).sum()
        one_hot = np.eye(CLASSES)[y]
        common, both, true = common + p * one_hot, both + p + one_hot, true + one_hot
        if options.name == "focal":
            s = 1 / (1 + np.exp(-x))
            for c in range(CLASSES):
                of_own = s[c] if c == y else 1 - s[c]
                alpha = options.focal_alpha if c == y else 1 - options.focal_alpha
                total -= weights[c] * alpha * (1 - of_own) ** options.focal_gamma * np.log(of_own) / CLASSES
            divisor += 1
            continue
        divisor += weights[y]
        if options.ohem_threshold and not p[y] < limit:
            continue
        target = (1 - options.label_smoothing) * one_hot + options.label_smoothing / CLASSES
        total -= sum(weights[c] * target[c] * np.log(p[c]) for c in range(CLASSES))
    scores = [1 - 2 * common[c] / both[c] if true[c] else 0.0 for c in range(CLASSES)]
    return total / divisor + options.dice_weight * np.mean(scores), divisor


@pytest.mark.parametrize("options", OPTIONS)
def test_against_a_loop(options):
    logits, label = batch()
    with jax.enable_x64(True):
        for mean in MEANS:
            own = options._replace(mean=mean)
            found = segmentation_loss(jnp.asarray(logits), jnp.asarray(label), own)
            np.testing.assert_allclose(found, naive(logits, label, own), rtol=1e-12)


SMOOTH = SegmentationLoss(mean="valid", label_smoothing=0.1)
HARD = SegmentationLoss(ohem_threshold=0.01, ohem_kept=5)
# What other libraries give for `batch`, in float64: MMSegmentation 1.2.2's CrossEntropyLoss (with avg_non_ignore for
# "valid"), OHEMPixelSampler and FocalLoss; PyTorch 2.13's cross_entropy for label smoothing.
GOLDEN = [
    (SegmentationLoss(), 2.9084989),
    (SegmentationLoss(mean="valid"), 3.6738933),
    (SegmentationLoss(mean="valid", class_weights=WEIGHTS), 3.4404039),
    (SMOOTH, 3.6418493651578454),
    (SMOOTH._replace(class_weights=WEIGHTS), 3.378275973809692),
    (HARD, 2.32403365),
    (HARD._replace(mean="valid"), 2.93562146),
    (HARD._replace(ohem_threshold=0.3, ohem_kept=2), 2.87275643),
    (SegmentationLoss("focal"), 0.4780851259683246),
    (SegmentationLoss("focal", class_weights=WEIGHTS, focal_gamma=0.5, focal_alpha=0.25), 0.6678825100896644),
]


@pytest.mark.parametrize(("options", "value"), GOLDEN)
def test_values_of_other_libraries(options, value):
    logits, label = batch()
    with jax.enable_x64(True):
        found = segmentation_loss(jnp.asarray(logits), jnp.asarray(label), options).loss
    np.testing.assert_allclose(found, value, rtol=2e-8)


def test_options_cover_every_loss():
    assert {options.name for options in OPTIONS} == set(LOSSES)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]]))
    label = jnp.array([[[0, 1, -1]]])
    valid = -(np.log(0.5) + np.log(0.75))
    np.testing.assert_allclose(segmentation_loss(logits, label, SegmentationLoss(mean="valid")), [valid / 2, 2], 1e-6)
    np.testing.assert_allclose(segmentation_loss(logits, label, SegmentationLoss()), [valid / 3, 3], 1e-6)
    # Weights 1 and 3: divided by 1 + 3, and by 1 more with the ignored pixel.
    weighted = -(np.log(0.5) + 3 * np.log(0.75))
    of_weights = SegmentationLoss(mean="valid", class_weights=(1.0, 3.0))
    np.testing.assert_allclose(segmentation_loss(logits, label, of_weights), [weighted / 4, 4], 1e-6)
    np.testing.assert_allclose(segmentation_loss(logits, label, of_weights._replace(mean="all"))[0], weighted / 5, 1e-6)
    assert [int(count) for count in accuracy(logits, label)] == [2, 2]


def test_dice_by_hand():
    """Class 0: 2 (0.5 + 0.25) / (0.75 + 2); class 1 has no pixel and adds 0, but is one of the two of the mean."""
    logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]]))
    assert float(dice(logits, jnp.array([[[0, 0, -1]]]))) == pytest.approx((1 - 1.5 / 2.75) / 2, rel=1e-6)


def test_hard_pixels_by_hand():
    own, valid = jnp.array([[[0.1, 0.2, 0.6, 0.8, 0.05]]]), jnp.array([[[True, True, True, True, False]]])
    # Below the threshold: one. At least two: below 0.6, that in place 2. More than there are: all but the last.
    assert hard_pixels(own, valid, 0.15, 1).tolist() == [[[True, False, False, False, False]]]
    assert hard_pixels(own, valid, 0.15, 2).tolist() == [[[True, True, False, False, False]]]
    assert hard_pixels(own, valid, 0.15, 9).tolist() == [[[True, True, True, False, False]]]


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_counts(options):
    """All pixels ignored, and all of the class of weight 0; with logits that are certain, and wrong."""

    def both(logits, label):
        def loss(logits):
            return jnp.stack([segmentation_loss(logits, label, options._replace(mean=mean)).loss for mean in MEANS])

        return loss(logits), jax.jacrev(loss)(logits)

    logits = np.full((1, 2, 2, CLASSES), -200.0, np.float32)
    logits[..., 0] = 200.0
    function = jax.jit(both)
    losses, gradients = function(logits, np.full((1, 2, 2), -1))
    assert not losses.any() and not gradients.any()
    for values in function(logits, np.full((1, 2, 2), 2)):
        assert np.isfinite(values).all()


def test_inverse_frequencies_by_hand():
    # 60 pixels, three classes that occur: 60 / (3 x 10), 60 / (3 x 20), 60 / (3 x 30).
    assert inverse_frequencies(np.array([10, 0, 20, 30])) == pytest.approx((2.0, 0.0, 1.0, 2 / 3))


def test_effective_frequencies_by_hand():
    # beta 0.5: one photo 0.5 / 0.5 = 1, two photos 0.5 / 0.75 = 2/3; divided by their mean, 5/6.
    assert effective_frequencies(np.array([1, 2, 0]), 0.5) == pytest.approx((1.2, 0.8, 0.0))
    assert effective_frequencies(np.array([1, 50]), 0.0) == (1.0, 1.0)
