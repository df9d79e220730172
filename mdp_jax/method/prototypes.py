"""The prototype bank: one unit vector per class of every dataset, and its update (METHOD.md section 3)."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@flax.struct.dataclass
class Bank:
    """The state of the prototypes.

    Attributes:
      vectors: float32 [C, D], unit rows; for classes never seen zero rows, or where their prototypes start.
      images_seen: int32 [C], the number of images each class was seen in; 0 means unseen.
      pixels: float32 [C], the number of pixels of each class so far; None where frequencies are not used.
    """

    vectors: jax.Array
    images_seen: jax.Array
    pixels: jax.Array | None = None

    @property
    def seen(self) -> jax.Array:
        """bool [C]: classes that have a prototype."""
        return self.images_seen > 0

    @property
    def log_frequencies(self) -> jax.Array | None:
        """float32 [C]: the logarithm of each class's share of the pixels, 0 for classes never seen; None without it."""
        if self.pixels is None:
            return None
        known = self.pixels > 0
        shares = jnp.where(known, self.pixels, 1.0) / jnp.maximum(jnp.sum(self.pixels), 1.0)
        return jnp.where(known, jnp.log(shares), 0.0)


def empty_bank(
    num_classes: int,
    dim: int,
    dtype: DTypeLike = jnp.float32,
    frequencies: bool = False,
    starts: jax.Array | None = None,
) -> Bank:
    """Makes a bank in which no class was seen yet.

    Args:
      num_classes: C.
      dim: D.
      dtype: of the vectors.
      frequencies: whether the pixels of each class are counted.
      starts: float [C, D], unit rows that the prototypes start from; None = there are none.
    """
    pixels = jnp.zeros((num_classes,), jnp.float32) if frequencies else None
    vectors = jnp.zeros((num_classes, dim), dtype) if starts is None else starts.astype(dtype)
    return Bank(vectors, jnp.zeros((num_classes,), jnp.int32), pixels)


def normalise(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Computes x / max(|x|, eps) over the last axis; the gradient is 0 where |x| <= eps.

    There x has no direction. The derivative of the formula is 1 / eps, as in PyTorch: then one feature of which a ReLU
    leaves nothing moves the weights 1e9 times as much as all others together.

    Args:
      x: any shape and float dtype.
      eps: smallest norm.
    """
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    x = jnp.where(square > eps * eps, x, jax.lax.stop_gradient(x))
    return x / jnp.sqrt(jnp.maximum(square, eps * eps))


def mean_cosine(bank: Bank) -> jax.Array:
    """Computes the mean cosine between the prototypes of different seen classes.

    It uses the norm of the sum, so that no [C, C] matrix is made.

    Args:
      bank: C classes.

    Returns:
      A scalar in [-1, 1]; 0 with fewer than two seen classes. 1 is a collapsed bank: all classes in one direction.
    """
    seen = jnp.sum(bank.seen).astype(bank.vectors.dtype)
    total = jnp.sum(jnp.where(bank.seen[:, None], bank.vectors, 0.0), axis=0)
    pairs = seen * (seen - 1)
    return jnp.where(pairs > 0, (jnp.sum(total * total) - seen) / jnp.maximum(pairs, 1.0), 0.0)


def image_means(embeddings: jax.Array, labels: jax.Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """Step 1 of the two-step average: the normalised mean embedding of each class in each image (METHOD.md section 3).

    Args:
      embeddings: [B, N, D] unit pixel embeddings.
      labels: int [B, N] global class ids, -1 = ignore.
      num_classes: C.

    Returns:
      The means [B, C, D], zero where the class is not in the image; and which classes are present, bool [B, C].
    """
    return jax.vmap(functools.partial(_means_of_image, num_classes=num_classes))(embeddings, labels)


def _means_of_image(embeddings: jax.Array, labels: jax.Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """`image_means` of one image: [N, D] and int [N]."""
    ids = jnp.where(labels < 0, num_classes, labels)
    # Normalising makes the division by the pixel count unnecessary: the sum points the same way as the mean.
    sums = jax.ops.segment_sum(embeddings, ids, num_classes + 1)[:num_classes]
    counts = jax.ops.segment_sum(jnp.ones(ids.shape, jnp.int32), ids, num_classes + 1)[:num_classes]
    return normalise(sums), counts > 0


def _summed_means(embeddings: jax.Array, labels: jax.Array, num_classes: int) -> tuple[jax.Array, jax.Array]:
    """The sum of the means of all images, float [C, D], and the number of images that each class is in, int32 [C]."""
    means, present = image_means(embeddings, labels, num_classes)
    return jnp.sum(means, axis=0), jnp.sum(present, axis=0, dtype=jnp.int32)


def _summed_means_by_images(
    embeddings: jax.Array, labels: jax.Array, num_classes: int, devices: int
) -> tuple[jax.Array, jax.Array]:
    """The same, one image of each device after the other: on a CPU the sums of one image stay in the cache."""

    def body(sums: tuple[jax.Array, jax.Array], image: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        means, present = _means_of_image(*image, num_classes)
        return (sums[0] + means, sums[1] + present.astype(jnp.int32)), None

    def of_device(embeddings: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        nothing = (
            jnp.zeros((num_classes, embeddings.shape[-1]), embeddings.dtype),
            jnp.zeros((num_classes,), jnp.int32),
        )
        return jax.lax.scan(body, nothing, (embeddings, labels))[0]

    if devices == 1:  # sums over a batch of one take three times as long on a CPU
        return of_device(embeddings, labels)
    apart = (x.reshape(devices, -1, *x.shape[1:]) for x in (embeddings, labels))
    total, images = jax.vmap(of_device)(*apart)
    return jnp.sum(total, axis=0), jnp.sum(images, axis=0, dtype=jnp.int32)


@jax.named_scope("bank")
def update_bank(
    bank: Bank,
    embeddings: jax.Array,
    labels: jax.Array,
    momentum: float,
    started: bool = False,
    warmup: bool = False,
    devices: int = 1,
) -> Bank:
    """The two-step average of the global batch, folded into the bank (METHOD.md section 3).

    A class seen for the first time takes the normalised mean; a class absent from the batch keeps its prototype.

    Args:
      bank: C classes, D dimensions.
      embeddings: [B, N, D] unit pixel embeddings of the momentum encoder.
      labels: int [B, N] global class ids, -1 = ignore.
      momentum: m_proto, the weight of the old prototype, in [0, 1].
      started: whether the prototypes of unseen classes are starts, which are moved as those of seen classes are.
      warmup: whether the old prototype of n images weighs n / (n + k) beside the k images of this batch, where that is
        less than the momentum; a start weighs as one image.
      devices: number of devices that the images are split over; it divides B, and does not change the result.

    Returns:
      The new bank.
    """
    num_classes = bank.vectors.shape[0]
    total, images = jax.lax.platform_dependent(
        embeddings.astype(bank.vectors.dtype),
        labels,
        cpu=functools.partial(_summed_means_by_images, num_classes=num_classes, devices=devices),
        default=functools.partial(_summed_means, num_classes=num_classes),
    )
    mean = total / jnp.maximum(images, 1)[:, None].astype(total.dtype)
    keep: jax.Array | float = momentum
    if warmup:
        before = (bank.images_seen + int(started)).astype(total.dtype)
        keep = jnp.minimum(momentum, before / jnp.maximum(before + images, 1))[:, None]
    moved = normalise(keep * bank.vectors + (1.0 - keep) * mean)
    # A start of 0 gives the normalised mean too.
    new = moved if started else jnp.where(bank.seen[:, None], moved, normalise(mean))
    vectors = jnp.where((images > 0)[:, None], new, bank.vectors)
    pixels = bank.pixels
    if pixels is not None:
        ids = jnp.where(labels < 0, num_classes, labels).reshape(-1)
        pixels = pixels + jax.ops.segment_sum(jnp.ones(ids.shape, pixels.dtype), ids, num_classes + 1)[:num_classes]
    return Bank(vectors, bank.images_seen + images, pixels)
