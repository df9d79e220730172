"""Swin Transformers (arXiv 2103.14030), the first version, with windows of 7 x 7 patches.

Parameters are named as in timm ("layers"/"0"/"blocks"/"0"/"attn"/"qkv"), so that a path joined by dots is timm's key of
a module. The normalisations of the features ("norm0" to "norm3") are named as in MMSegmentation.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export
from jax.sharding import PartitionSpec

from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models.entries import Backbone, Layers, Rules
from mdp_jax.models.layers import (
    MLP,
    Dense,
    Dtypes,
    LayerNorm,
    Path,
    Row,
    attended,
    drop_path,
    give_third_stage,
    linear_rates,
    normal,
    of_patches,
)
from mdp_jax.models.resizing import padded, parts
from mdp_jax.models.stages import FIRST, doubled, strides
from mdp_jax.models.windows import from_windows, into_windows

HEAD = 32  # channels of an attention head at width 1
PATCH = FIRST  # pixels of a patch's side
WINDOW = 7  # patches of a window's side
SHIFT = WINDOW // 2  # patches by which every second block moves its windows
STRIDES = tuple(strides(32))  # of the stages
EPS = 1e-5  # of the normalisations
APART = -100.0  # added under the softmax for two patches of a window that are no neighbours in the image


class Sizes(NamedTuple):
    """Blocks of each of the four stages, and heads of the first one; they double from stage to stage."""

    blocks: tuple[int, int, int, int]
    heads: int


Shift = int | jax.Array  # patches by which a map is rolled along an axis; an array where the size is not known


SIZES = {
    "swin_tiny": Sizes((2, 2, 6, 2), 3),
    "swin_small": Sizes((2, 2, 18, 2), 3),
    "swin_base": Sizes((2, 2, 18, 2), 4),
}


def relative_bias(table: jax.Array) -> jax.Array:
    """The bias of each pair of positions in a window, which depends on how far apart they are.

    Slices in place of a gather: their gradient is a sum in a fixed order on every device.

    Args:
      table: [(2 WINDOW - 1)**2,heads]; row (dy + WINDOW - 1) (2 WINDOW - 1) + dx + WINDOW - 1 is for a query that lies
        dy rows below and dx columns to the right of the key.

    Returns:
      [heads,WINDOW**2,WINDOW**2], queries before keys.
    """
    side, last = 2 * WINDOW - 1, WINDOW - 1
    square = table.reshape(side, side, -1)
    rows = jnp.stack([square[last - key : side - key] for key in range(WINDOW)])  # [key's row, query's row, ...]
    both = jnp.stack([rows[:, :, last - key : side - key] for key in range(WINDOW)])
    return both.transpose(4, 2, 3, 1, 0).reshape(-1, WINDOW**2, WINDOW**2)


def shift_along(side: int, shift: int) -> Shift:
    """By how much the windows of an axis are shifted: not at all where one window has all of it.

    Args:
      side: of the map, a multiple of WINDOW. In a program for photos of any size (jax.export) it may be symbolic.
      shift: of the block.
    """
    if shift and export.is_symbolic_dim(side):
        return jnp.where(jnp.asarray(side) > WINDOW, shift, 0)
    return shift if shift and side > WINDOW else 0


def rolled(x: jax.Array, shifts: tuple[Shift, Shift]) -> jax.Array:
    """Moves rows and columns towards 0; those that leave come back at the end.

    Args:
      x: [B,h,w,C].
      shifts: of rows and columns; negative ones move away from 0.
    """
    for axis, shift in enumerate(shifts, start=1):
        if isinstance(shift, int):
            x = jnp.roll(x, -shift, axis)
        else:
            side = jnp.asarray(x.shape[axis])
            place = jnp.arange(x.shape[axis]) + shift
            place = jnp.where(place >= side, place - side, jnp.where(place < 0, place + side, place))
            x = jnp.take(x, place, axis=axis)
    return x


def apart(size: tuple[int, int], shifts: tuple[Shift, Shift]) -> jax.Array:
    """Which positions of each window come from opposite edges of the map, after it was rolled.

    Args:
      size: of the map, (WINDOW rows, WINDOW columns).
      shifts: by which rows and columns were rolled towards 0.

    Returns:
      bool [rows columns,WINDOW**2,WINDOW**2].
    """
    below, right = (jnp.arange(side) + shift >= jnp.asarray(side) for side, shift in zip(size, shifts, strict=True))
    region = 2 * below.astype(jnp.int32)[:, None] + right.astype(jnp.int32)[None, :]
    region = into_windows(region[None, :, :, None], WINDOW)[0, :, :, 0]
    return region[:, :, None] != region[:, None, :]


class Attention(nn.Module):
    """Attention inside windows, in several heads: [B,h,w,C] to the same.

    The map is padded with zeros below and on the right to whole windows, as in torchvision and MMSegmentation: what was
    added takes part. With `shift` the windows lie so many patches further down and right, and go round the edges; there
    patches of opposite edges do not see each other. Along an axis of a single window nothing is shifted.
    """

    heads: int
    shift: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        rows, columns = (parts(side, WINDOW) for side in (height, width))
        size = (WINDOW * rows, WINDOW * columns)
        shifts = (shift_along(size[0], self.shift), shift_along(size[1], self.shift))
        x = jnp.pad(x, ((0, 0), (0, size[0] - height), (0, size[1] - width), (0, 0)))
        windows = into_windows(rolled(x, shifts), WINDOW)
        shape = (batch * rows * columns, WINDOW**2, 3, self.heads, channels // self.heads)
        q, k, v = jnp.moveaxis(Dense(3 * channels, self.dtypes, name="qkv")(windows).reshape(shape), 2, 0)

        places = ((2 * WINDOW - 1) ** 2, self.heads)
        table = self.param("relative_position_bias_table", normal(0.02), places, self.dtypes.param)
        bias = relative_bias(table.astype(self.dtypes.wide))[None]
        if any(not isinstance(shift, int) or shift for shift in shifts):
            bias = bias + jnp.where(apart(size, shifts), APART, 0.0).astype(bias.dtype)[:, None]
            bias = jnp.broadcast_to(bias, (batch, *bias.shape)).reshape(-1, *bias.shape[1:])
        y = attended(q, k, v, bias).reshape(windows.shape)
        y = from_windows(Dense(channels, self.dtypes, name="proj")(y), WINDOW, size)
        return rolled(y, (-shifts[0], -shifts[1]))[:, :height, :width]


class Block(nn.Module):
    """Attention, then two matrix products; each after a normalisation and added to what it is given. [B,h,w,C]."""

    heads: int
    shift: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, path: Path | None = None) -> jax.Array:
        del train
        first, second = (None, None) if path is None else (Path(path.rate, key) for key in jax.random.split(path.key))
        y = LayerNorm(self.dtypes, EPS, name="norm1")(x)
        x = x + drop_path(Attention(self.heads, self.shift, self.dtypes, name="attn")(y), first)
        y = LayerNorm(self.dtypes, EPS, name="norm2")(x)
        return x + drop_path(MLP(4 * x.shape[-1], self.dtypes, name="mlp")(y), second)


class PatchMerging(nn.Module):
    """Joins 2x2 features, normalises them and multiplies them by a matrix: [B,h,w,C] to [B,ceil(h/2),ceil(w/2),2C].

    An odd map gets a row or column of zeros. The four lie one after the other: first those of the left column.
    """

    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        rows, columns = (parts(side, 2) for side in (height, width))
        x = jnp.pad(x, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
        x = x.reshape(batch, rows, 2, columns, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = LayerNorm(self.dtypes, EPS, name="norm")(x.reshape(batch, rows, columns, 4 * channels))
        return Dense(2 * channels, self.dtypes, bias=False, name="reduction")(x)


class Stage(nn.Module):
    """The blocks of one resolution, every second one with shifted windows; before them, if `merges`, patch merging."""

    heads: int
    blocks: int
    merges: bool
    dtypes: Dtypes
    remat: str = "none"
    rates: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.merges:
            x = PatchMerging(self.dtypes, name="downsample")(x)
        whole, shifted = (functools.partial(Block, self.heads, shift, self.dtypes) for shift in (0, SHIFT))
        row = Row(whole, self.blocks, self.dtypes, self.remat, rates=self.rates, others=(shifted,), name="blocks")
        return row(x, train).last


class Stages(nn.Module):
    """The four stages, named "0" to "3": the embedded patches to the output of each."""

    sizes: Sizes
    dtypes: Dtypes
    remat: str = "none"
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        outputs, rates = [], linear_rates(self.drop_path, sum(self.sizes.blocks))
        for i, blocks in enumerate(self.sizes.blocks):
            own, rates = rates[:blocks], rates[blocks:]
            heads = self.sizes.heads * 2**i
            x = Stage(heads, blocks, i > 0, self.dtypes, self.remat, own, name=str(i))(x, train)
            outputs.append(x)
        return outputs


class PatchEmbed(nn.Module):
    """A convolution whose kernel and stride are the patch ("proj"), and normalisation ("norm")."""

    features: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return LayerNorm(self.dtypes, EPS, name="norm")(of_patches(self.features, PATCH, self.dtypes, "proj")(x))


class Swin(nn.Module):
    """Maps images [B,H,W,3] to {stride: features [B,ceil(H/stride),ceil(W/stride),C]} in `dtypes.compute`.

    The strides are 4, 8, 16 and 32. The features are the outputs of the stages, each normalised ("norm0" to "norm3").
    Feature i is centred in the cell of the pixels stride * i to stride * (i + 1). Images are padded to a multiple of
    the patch.
    """

    sizes: Sizes
    head: int
    dtypes: Dtypes
    remat: str = "none"
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        embed = PatchEmbed(self.sizes.heads * self.head, self.dtypes, name="patch_embed")
        stages = Stages(self.sizes, self.dtypes, self.remat, self.drop_path, name="layers")
        outputs = stages(embed(padded(x, PATCH)), train)
        features = {
            stride: LayerNorm(self.dtypes, EPS, name=f"norm{i}")(x)
            for i, (stride, x) in enumerate(zip(STRIDES, outputs, strict=True))
        }
        give_third_stage(self, features[STRIDES[2]])
        return features


def head_channels(width: float) -> int:
    """The channels of an attention head; the numbers of heads stay.

    Args:
      width: the config's `model.width`.

    Raises:
      UserError: there are none.
    """
    channels = round(HEAD * width)
    if channels < 1:
        raise UserError(f"config.model.width={width}: expected at least {1 / HEAD}, one channel in an attention head")
    return channels


def feature_channels(name: str, width: float, output_stride: int) -> dict[int, int]:
    """The channels of the features.

    Args:
      name: a key of SIZES.
      width: the config's `model.width`.
      output_stride: the last of STRIDES.

    Returns:
      {stride: channels}.

    Raises:
      UserError: an attention head would have no channel.
    """
    return doubled(SIZES[name].heads * head_channels(width), output_stride)


def _make(name: str, model: ModelConfig, dtypes: Dtypes) -> Swin:
    return Swin(SIZES[name], head_channels(model.width), dtypes, model.remat, model.drop_path)


# Matrices are split by output channels; for queries, keys and values these are all heads of all three.
SHARDING: Rules = (
    (r"patch_embed/proj/kernel", PartitionSpec(None, None, None, "fsdp")),
    (r"layers/.*/kernel", PartitionSpec(None, "fsdp")),
    (r".*/(bias|scale|relative_position_bias_table)", PartitionSpec()),
)


def layer_of(blocks: tuple[int, ...], path: str) -> int:
    """The layer of a parameter, as in the fine-tuning of SimMIM (arXiv 2111.09886), by Swin's authors.

    Args:
      blocks: of each stage.
      path: of the parameter.

    Returns:
      0 for the embedding, i + 1 for block i of all blocks, the layer of the block before it for a patch merging, and
      one more than the last block's for the normalisations of the features.
    """
    part, *rest = path.split("/")
    if part == "layers":
        before = sum(blocks[: int(rest[0])])
        return before + int(rest[2]) + 1 if rest[1] == "blocks" else before
    return 0 if part == "patch_embed" else sum(blocks) + 1


BACKBONES = {
    name: Backbone(
        make=functools.partial(_make, name),
        channels=functools.partial(feature_channels, name),
        output_strides=STRIDES[-1:],
        third_stage=STRIDES[-1:],
        stochastic_depth=True,
        normalisation="none",
        sharding=SHARDING,
        centre="cell",
        weight_names="mdp_jax.weights.names.swin",
        layers=Layers(functools.partial(layer_of, sizes.blocks), sum(sizes.blocks) + 2),
    )
    for name, sizes in SIZES.items()
}
