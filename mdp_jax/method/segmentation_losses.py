"""The losses of fine-tuning (METHOD.md section 6): of labelled pixels, with ignored ones, from logits.

All of them are defined, and have finite gradients, where no pixel is labelled, where a class has no pixel, and where
all labelled pixels have classes of weight 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

LOSSES = ("cross_entropy", "focal")
MEANS = ("all", "valid")
INVERSE, EFFECTIVE = "inverse", "effective"  # class weights that are counted in the training masks


class SegmentationLoss(NamedTuple):
    """What the loss is; hashable.

    Attributes:
      name: one of LOSSES.
      mean: "all" divides by the number of all pixels, "valid" by that of the labelled pixels.
      class_weights: one of at least 0 for each class; () = all 1.
      label_smoothing: of the cross entropy: share of the target that all classes have alike, in [0, 1).
      ohem_threshold: of the cross entropy: pixels count whose own class is less probable; 0 = all pixels count.
      ohem_kept: so many pixels of each image count at least, if that many are labelled.
      focal_gamma: exponent of the focal loss, at least 0.
      focal_alpha: weight of a pixel's own class in the focal loss, in [0, 1]; others weigh 1 - alpha.
      dice_weight: of the Dice loss that is added; 0 = none.
    """

    name: str = "cross_entropy"
    mean: str = "all"
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    ohem_threshold: float = 0.0
    ohem_kept: int = 100_000
    focal_gamma: float = 2.0
    focal_alpha: float = 0.5
    dice_weight: float = 0.0


class Weighted(NamedTuple):
    """A mean and what it was divided by.

    Attributes:
      loss: scalar; 0 where nothing counts.
      weight: scalar, the divisor. Parts of a batch are joined by it.
    """

    loss: jax.Array
    weight: jax.Array


def inverse_frequencies(pixels: np.ndarray) -> tuple[float, ...]:
    """Weights by which each class that occurs weighs the same in all, and a labelled pixel weighs 1 in the mean.

    w_c = N / (C' n_c), where N is the sum of the n_c and C' the number of classes that occur.

    Args:
      pixels: int [C], n_c, labelled pixels of each class.

    Returns:
      C weights; 0 for a class that does not occur.
    """
    occurs = pixels > 0
    weights = pixels.sum() / (max(occurs.sum(), 1) * np.maximum(pixels, 1))
    return tuple(np.where(occurs, weights, 0.0).tolist())


def effective_frequencies(photos: np.ndarray, beta: float) -> tuple[float, ...]:
    """Weights by the effective number of samples of a class (arXiv 1901.05555): w_c = k (1 - beta) / (1 - beta^n_c).

    k makes their mean 1 over the classes that occur. The samples are photos: beta^n of the pixels would be 0 for all
    classes, and the pixels of a photo are not independent.

    Args:
      photos: int [C], n_c, photos that hold each class.
      beta: in [0, 1).

    Returns:
      C weights; 0 for a class that does not occur.
    """
    occurs = photos > 0
    weights = np.where(occurs, (1 - beta) / (1 - beta ** np.maximum(photos, 1).astype(float)), 0.0)
    return tuple((weights * occurs.sum() / max(weights.sum(), np.finfo(float).tiny)).tolist())


def hard_pixels(own: jax.Array, valid: jax.Array, threshold: float, kept: int) -> jax.Array:
    """Chooses the pixels of online hard example mining, as MMSegmentation's OHEMPixelSampler.

    These are the pixels whose own class has a probability below the threshold, or below that of the pixel in place
    `kept` x B of the whole batch, in rising order (the last one, if there are fewer), whichever is larger.

    Args:
      own: float [B, H, W], probability of each pixel's own class.
      valid: bool [B, H, W], labelled pixels.
      threshold: in (0, 1].
      kept: pixels of each image.

    Returns:
      bool [B, H, W], some of the labelled pixels.
    """
    rising = jnp.sort(jnp.where(valid, own, 2.0).ravel())  # the ignored ones last
    place = jnp.minimum(kept * own.shape[0], jnp.maximum(jnp.sum(valid) - 1, 0))
    return valid & (own < jnp.maximum(rising[place], threshold))


def _divided(total: jax.Array, weight: jax.Array) -> Weighted:
    return Weighted(total / jnp.where(weight > 0, weight, 1.0), weight)


def _count(label: jax.Array, mean: str) -> jax.Array | int:
    """The number of pixels that a loss is divided by, as a whole number: a float32 cannot count those of any batch."""
    return label.size if mean == "all" else jnp.sum(label >= 0)


def _cross_entropy(logits: jax.Array, label: jax.Array, options: SegmentationLoss) -> Weighted:
    valid, smoothing = label >= 0, options.label_smoothing
    own = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    each, weight = own, _count(label, options.mean)
    of_class = jnp.asarray(options.class_weights or (1.0,), own.dtype)
    if options.class_weights:
        of_pixel = of_class[jnp.maximum(label, 0)]
        each = own * of_pixel
        weight = jnp.sum(jnp.where(valid, of_pixel, float(options.mean == "all")))
    if smoothing:
        # As softmax_cross_entropy of smooth_labels, without an array of targets of the size of the logits.
        others = -jnp.mean(of_class[None, None, None, :] * jax.nn.log_softmax(logits), axis=-1)
        each = (1 - smoothing) * each + smoothing * others
    chosen = valid
    if options.ohem_threshold:
        chosen = hard_pixels(jax.lax.stop_gradient(jnp.exp(-own)), valid, options.ohem_threshold, options.ohem_kept)
    return _divided(jnp.sum(jnp.where(chosen, each, 0.0)), jnp.asarray(weight, own.dtype))


def _focal(logits: jax.Array, label: jax.Array, options: SegmentationLoss) -> Weighted:
    own = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)  # all 0 where a pixel is ignored
    each = optax.sigmoid_focal_loss(logits, own, alpha=options.focal_alpha, gamma=options.focal_gamma)
    if options.class_weights:
        each = each * jnp.asarray(options.class_weights, each.dtype)[None, None, None, :]
    total = jnp.sum(jnp.where(label >= 0, jnp.mean(each, axis=-1), 0.0))
    return _divided(total, jnp.asarray(_count(label, options.mean), each.dtype))


_OF_PIXELS = {"cross_entropy": _cross_entropy, "focal": _focal}


def dice(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Computes the Dice loss of segmentation_models_pytorch (mode "multiclass").

    It is the mean over the classes of 1 - 2 sum p t / sum (p + t). The sums are over the labelled pixels of the whole
    batch, p is the softmax, t is 1 for the pixel's own class. A class without a pixel in the batch adds 0, and is
    counted in the mean.

    Args:
      logits: float [B, H, W, C].
      label: int [B, H, W], -1 = ignore.

    Returns:
      A scalar in [0, 1]; 0 where no pixel is labelled.
    """
    valid = (label >= 0)[..., None]
    p = jnp.where(valid, jax.nn.softmax(logits), 0.0)
    t = jax.nn.one_hot(label, logits.shape[-1], dtype=p.dtype)  # all 0 where a pixel is ignored
    common, both, true = (jnp.sum(x, axis=(0, 1, 2)) for x in (p * t, p + t, t))
    present = true > 0
    return jnp.mean(jnp.where(present, 1 - 2 * common / jnp.where(present, both, 1.0), 0.0))


@jax.named_scope("loss")
def segmentation_loss(logits: jax.Array, label: jax.Array, options: SegmentationLoss) -> Weighted:
    """Computes the loss of a batch (METHOD.md section 6).

    Cross entropy with class weights is divided by the sum of the weights of the labelled pixels' classes, as PyTorch
    and MMSegmentation do; with "all" the number of ignored pixels is added to it. With label smoothing each class has
    its own weight in the smoothed target, as in PyTorch. Pixels that hard example mining leaves out stay in the
    divisor, as in MMSegmentation. The focal loss is MMSegmentation's: that of a sigmoid for each class against the
    others, its mean over the classes, and over the pixels.

    Args:
      logits: float [B, H, W, C].
      label: int [B, H, W], -1 = ignore.
      options: what the loss is.

    Returns:
      The loss and its divisor.
    """
    found = _OF_PIXELS[options.name](logits, label, options)
    if options.dice_weight:
        found = found._replace(loss=found.loss + options.dice_weight * dice(logits, label))
    return found


def accuracy(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts the labelled pixels that are right.

    Args:
      logits: float [B, H, W, C].
      label: int [B, H, W], -1 = ignore.

    Returns:
      The number of right pixels and that of labelled ones, scalars.
    """
    valid = label >= 0
    return jnp.sum(valid & (jnp.argmax(logits, axis=-1) == label)), jnp.sum(valid)
