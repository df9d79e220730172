"""Cross-dataset mixing inside pairs (METHOD.md section 4). Members 2j and 2j + 1 of a batch are a pair."""

import jax
import jax.numpy as jnp

PLAIN, REGION, PIXEL = 0, 1, 2


def swap_partners(x: jax.Array) -> jax.Array:
    """[B, ...] with the two members of each pair exchanged; on a mesh this moves nothing between devices."""
    pairs = x.reshape(x.shape[0] // 2, 2, *x.shape[1:])
    return pairs[:, ::-1].reshape(x.shape)


def _per_member(x: jax.Array, ndim: int) -> jax.Array:
    """[P] values of pairs as [2 P, 1, ...] values of members with `ndim` axes."""
    return jnp.repeat(x, 2).reshape(-1, *(1,) * (ndim - 1))


def region_mask(box: jax.Array, height: int, width: int) -> jax.Array:
    """bool [P, height, width]: the pixels of each half-open box (y0, x0, y1, x1), int [P, 4]."""
    y = jnp.arange(height)[None, :, None]
    x = jnp.arange(width)[None, None, :]
    y0, x0, y1, x1 = (box[:, i, None, None] for i in range(4))
    return (y >= y0) & (y < y1) & (x >= x0) & (x < x1)


def mix_pairs(
    images: jax.Array, labels: jax.Array, kind: jax.Array, lam: jax.Array, box: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mixes the two members of each pair as `kind` says.

    Region: the box of the partner replaces that part of image and labels. Pixel: lam x own + (1 - lam) x partner, and
    each pixel carries both labels with these weights. The kind is chosen by masks, never by slices, so that a batch
    sharded over devices stays where it is.

    Args:
      images: float [B, H, W, 3].
      labels: int [B, H, W], -1 = ignore.
      kind: int [B / 2], PLAIN, REGION or PIXEL.
      lam: float [B / 2] in [0, 1].
      box: int [B / 2, 4], (y0, x0, y1, x1), half open.

    Returns:
      images [B, H, W, 3]; labels [B, H, W, 2], the second one -1 but for pixel mixing; weights float [B, 1, 1, 2] of
      the two labels (1 and 0 but for pixel mixing).
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
    return mixed, jnp.stack([own_labels, other_labels], axis=-1), jnp.stack([own_share, 1.0 - own_share], axis=-1)
