"""What decoders take from a whole photo, for networks that see it tile by tile."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import ModelConfig
from mdp_jax.evaluation.tiles import Span, Tile, Tiles, cell
from mdp_jax.models import network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.models.whole import WHOLE, Part, given, shares

_Matrices = dict[int, np.ndarray]  # by the sides of grids


def variables_of_tiles(
    model: ModelConfig, normalise: Normalise, variables: dict, tiles: Tiles
) -> Callable[[Tile], dict]:
    """The variables with which a network sees each tile of a photo.

    A decoder that averages features over the whole photo (models.entries.Pools) is given the averages. They are
    computed here, in a first pass of the backbone over the tiles. Each feature is counted once, in the tile from which
    its labels are taken. So they are those of the whole photo, but for features near to seams, as labels are.

    Args:
      model: the network under the head.
      normalise: makes its inputs from uint8 photos.
      variables: {"params", "batch_stats"}, and what else the network reads.
      tiles: of the photo.

    Returns:
      A function from a tile to the variables; the same ones for all tiles where the decoder takes nothing.
    """
    pools = network.pools(model)
    if pools is None:
        return lambda tile: variables
    photo, stride = tiles.photo.shape[:2], pools.stride

    def parts(tile: Tile) -> tuple[Part, Part]:
        def along(span: Span, size: int, whole: int) -> Part:
            count, start = -(-size // stride), span.start // stride
            first, end = (start + cell(at - span.start, size, count) for at in (span.first, span.end))
            return Part(start, count, first, end, -(-whole // stride))

        rows, columns = map(along, (tile.rows, tile.columns), tiles.size, photo)
        return rows, columns

    weights = {name: {"backbone": variables[name].get("backbone", {})} for name in ("params", "batch_stats")}
    sums = _sums(model, normalise, stride)
    means: dict[int, np.ndarray] = {}
    for tile in tiles:
        rows, columns = ({side: shares(part, side) for side in pools.sides} for part in parts(tile))
        for side, found in sums(weights, tile.image[None], rows, columns).items():
            means[side] = means.get(side, 0.0) + np.asarray(found, np.float64)
    return lambda tile: {**variables, WHOLE: {"decoder": given(parts(tile), means)}}


@functools.lru_cache(maxsize=8)
def _sums(model: ModelConfig, normalise: Normalise, stride: int) -> Callable[..., dict[int, jax.Array]]:
    """The part of a tile in the means; one program for all uses of a network."""

    def sums(variables: dict, images: jax.Array, rows: _Matrices, columns: _Matrices) -> dict[int, jax.Array]:
        features = network.backbone_features(model, variables, normalise(images))[stride]
        features = features.astype(jnp.promote_types(jnp.float32, features.dtype))

        def of(row: np.ndarray, column: np.ndarray) -> jax.Array:
            dtype, precision = features.dtype, jax.lax.Precision.HIGHEST
            across = jnp.einsum("jw,bhwc->bhjc", jnp.asarray(column, dtype), features, precision=precision)
            return jnp.einsum("ih,bhjc->bijc", jnp.asarray(row, dtype), across, precision=precision)

        return {side: of(row, columns[side]) for side, row in rows.items()}

    return jax.jit(sums)
