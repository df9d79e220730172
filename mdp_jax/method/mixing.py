"""Cross-dataset mixing inside pairs (METHOD.md section 4). Members 2j and 2j + 1 of a batch are a pair."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PLAIN, REGION, PIXEL = 0, 1, 2


class Mixed(NamedTuple):
    """A batch whose pairs are mixed.

    Attributes:
      images: float [B, H, W, 3].
      labels: int [B, H, W, 2]; the second label is -1 except in pixel mixing.
      weights: float [B, 1, 1, 2] of the two labels; 1 and 0 except in pixel mixing.
    """

    images: jax.Array
    labels: jax.Array
    weights: jax.Array


def swap_partners(x: jax.Array) -> jax.Array:
    """Exchanges the two members of each pair; on a mesh this moves nothing between devices.

    Args:
      x: [B, ...] with an even B.

    Returns:
      An array of the same shape.
    """
    pairs = x.reshape(x.shape[0] // 2, 2, *x.shape[1:])
    return pairs[:, ::-1].reshape(x.shape)


def _per_member(x: jax.Array, ndim: int) -> jax.Array:
    """[P] values of pairs as [2 P, 1, ...] values of members with `ndim` axes."""
    return jnp.repeat(x, 2).reshape(-1, *(1,) * (ndim - 1))


def region_mask(box: jax.Array, height: int, width: int) -> jax.Array:
    """Marks the pixels of boxes.

    Args:
      box: int [P, 4], half-open boxes (y0, x0, y1, x1).
      height: of the mask.
      width: of the mask.

    Returns:
      bool [P, height, width], True inside the box.
    """
    y = jnp.arange(height)[None, :, None]
    x = jnp.arange(width)[None, None, :]
    y0, x0, y1, x1 = (box[:, i, None, None] for i in range(4))
    return (y >= y0) & (y < y1) & (x >= x0) & (x < x1)


@jax.named_scope("mixing")
def mix_pairs(images: jax.Array, labels: jax.Array, kind: jax.Array, lam: jax.Array, box: jax.Array) -> Mixed:
    """Mixes the two members of each pair as `kind` says.

    Region: the box of the partner replaces that part of image and labels. Pixel: lam x own + (1 - lam) x partner, and
    each pixel carries both labels with these weights. Masks choose the kind, never slices, so that a batch that is
    sharded over devices is not moved between them.

    Args:
      images: float [B, H, W, 3].
      labels: int [B, H, W], -1 = ignore.
      kind: int [B / 2], PLAIN, REGION or PIXEL.
      lam: float [B / 2] in [0, 1].
      box: int [B / 2, 4], (y0, x0, y1, x1), half open.
    """
    partner_images, partner_labels = swap_partners(images), swap_partners(labels)
    _, height, width, _ = images.shape
    inside = jnp.repeat(region_mask(box, height, width), 2, axis=0) & (_per_member(kind, 3) == REGION)
    blend = _per_member(kind, 3) == PIXEL
    own_share = jnp.where(blend, _per_member(lam, 3).astype(images.dtype), 1.0)
    mixed = jnp.where(inside[..., None], partner_images, images)
    # Chosen by a mask and not by own_share = 1, so that a plain image passes through bit by bit.
    blended = own_share[..., None] * images + (1.0 - own_share[..., None]) * partner_images
    mixed = jnp.where(blend[..., None], blended, mixed)
    own_labels = jnp.where(inside, partner_labels, labels)
    other_labels = jnp.where(blend, partner_labels, -1)
    two_labels = jnp.stack([own_labels, other_labels], axis=-1)
    return Mixed(mixed, two_labels, jnp.stack([own_share, 1.0 - own_share], axis=-1))
