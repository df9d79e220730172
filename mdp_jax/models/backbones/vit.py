"""Plain vision transformers (arXiv 2010.11929), also those of DINOv2 (2304.07193, 2309.16588) and DINOv3 (2508.10104).

Parameters are named as in timm ("blocks"/"0"/"attn"/"qkv"), so that a path joined by dots is timm's key of a module.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
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
    spread,
)
from mdp_jax.models.resizing import of_image, padded, parts, upsample
from mdp_jax.models.windows import from_windows, into_windows

HEAD = 64  # channels of an attention head at width 1
LEVELS = 4  # blocks whose outputs become the features of the pyramid
ROTATION_BASE = 100.0  # of the periods of rotary positions
UNSEEN = -1e9  # added under the softmax for what fills a window at the edge


class Form(NamedTuple):
    """What distinguishes the published networks of one size.

    Attributes:
      patch: pixels of a patch's side.
      grid: patches of a side of the learned positions; 0: the attention turns queries and keys by their positions.
      registers: number of register tokens.
      layer_scale: where the factors of the residual branches begin; 0: there are none.
      eps: of the normalisations.
    """

    patch: int
    grid: int
    registers: int = 0
    layer_scale: float = 0.0
    eps: float = 1e-6


class Size(NamedTuple):
    """Number of blocks, and heads of the attention."""

    blocks: int
    heads: int


SIZES = {"small": Size(12, 6), "base": Size(12, 12), "large": Size(24, 16)}
FORMS = {
    "patch16": Form(16, grid=14),
    "patch14_dinov2": Form(14, grid=37, layer_scale=1e-5),
    "patch14_reg4_dinov2": Form(14, grid=37, registers=4, layer_scale=1e-5),
    "patch16_dinov3": Form(16, grid=0, registers=4, layer_scale=1e-5, eps=1e-5),
}


def rotations(grid: tuple[int, int], channels: int) -> np.ndarray:
    """The angles by which queries and keys are turned, as in DINOv3.

    The middles of the patches lie in [-1, 1] on each axis. Angles are 2 pi position / period, with periods in geometric
    steps from 1 to ROTATION_BASE; those of the rows come first, then those of the columns.

    Args:
      grid: rows and columns of patches.
      channels: of a head; divisible by 4.

    Returns:
      float64 [rows * columns, channels / 2].
    """
    periods = ROTATION_BASE ** (2 * np.arange(channels // 4) / (channels // 2))
    rows, columns = (2 * (np.arange(n) + 0.5) / n - 1 for n in grid)
    positions = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    return (2 * math.pi * positions / periods).reshape(len(positions), -1)


def turned(x: jax.Array, angles: np.ndarray, tokens: int) -> jax.Array:
    """Turns the patches' queries or keys; tokens that stand in front of them have no position.

    Args:
      x: [B,N,heads,channels].
      angles: [N - tokens, channels / 2].
      tokens: number of tokens in front of the patches.

    Returns:
      [B,N,heads,channels], computed in float32 or wider.
    """
    wide = jnp.promote_types(jnp.float32, x.dtype)
    first, second = jnp.split(x[:, tokens:].astype(wide), 2, axis=-1)
    cos, sin = (jnp.asarray(f(angles), wide)[None, :, None, :] for f in (np.cos, np.sin))
    patches = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([x[:, :tokens], patches.astype(x.dtype)], axis=1)


def attended_in_windows(
    q: jax.Array, k: jax.Array, v: jax.Array, tokens: int, grid: tuple[int, int], window: int
) -> jax.Array:
    """Attention where patches see the tokens in front and the patches of their own window, and tokens see everything.

    The grid is cut into windows from the upper left corner on. Those at the right and lower edge may hold fewer
    patches.

    Args:
      q: queries [B,N,heads,channels]; N = tokens + rows * columns.
      k: keys, the same shape.
      v: values, the same shape.
      tokens: number of tokens in front of the patches.
      grid: rows and columns of patches.
      window: patches of a window's side.

    Returns:
      [B,N,heads,channels].
    """
    batch, _, heads, channels = q.shape
    counts = [parts(side, window) for side in grid]
    whole = (counts[0] * window, counts[1] * window)
    added = ((0, 0), (0, whole[0] - grid[0]), (0, whole[1] - grid[1]), (0, 0))

    def cut(x: jax.Array) -> jax.Array:
        patches = x[:, tokens:].reshape(batch, *grid, heads * channels)
        return into_windows(jnp.pad(patches, added), window).reshape(-1, window**2, heads, channels)

    def joined(x: jax.Array) -> jax.Array:
        front = jnp.broadcast_to(x[:, None, :tokens], (batch, counts[0] * counts[1], tokens, heads, channels))
        return jnp.concatenate([front.reshape(-1, tokens, heads, channels), cut(x)], axis=1)

    bias = None
    if whole != grid:
        wide = jnp.promote_types(jnp.float32, q.dtype)
        real = into_windows(jnp.pad(jnp.ones((1, *grid, 1), bool), added), window)[0, :, :, 0]
        real = jnp.concatenate([jnp.ones((real.shape[0], tokens), bool), real], axis=1)
        bias = jnp.where(real, 0.0, UNSEEN).astype(wide)[None, :, None, None, :]
        shape = (batch, real.shape[0], 1, window**2, real.shape[1])
        bias = jnp.broadcast_to(bias, shape).reshape(-1, *shape[2:])
    inside = attended(cut(q), joined(k), joined(v), bias)
    inside = from_windows(inside.reshape(batch, -1, window**2, heads * channels), window, whole)
    inside = inside[:, : grid[0], : grid[1]].reshape(batch, -1, heads, channels)
    return jnp.concatenate([attended(q[:, :tokens], k, v), inside], axis=1)


class Attention(nn.Module):
    """Attention in several heads: [B,N,C] to the same.

    All tokens see all tokens, or, with a `window`, patches see their own window (`attended_in_windows`).
    """

    heads: int
    dtypes: Dtypes
    tokens: int
    grid: tuple[int, int]
    rotary: bool
    window: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1] // self.heads
        qkv = Dense(3 * x.shape[-1], self.dtypes, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, channels), 2, 0)
        if self.rotary:
            angles = rotations(self.grid, channels)
            q, k = (turned(one, angles, self.tokens) for one in (q, k))
        see = functools.partial(attended_in_windows, tokens=self.tokens, grid=self.grid, window=self.window)
        y = (see if self.window else attended)(q, k, v)
        return Dense(x.shape[-1], self.dtypes, name="proj")(y.reshape(x.shape))


class LayerScale(nn.Module):
    """A factor for each channel, which begins at `first`."""

    first: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.constant(self.first), x.shape[-1:], self.dtypes.param)
        return x * spread(gamma, x.shape, self.dtypes)


class Block(nn.Module):
    """Attention, then two matrix products; each after a normalisation and added to what it is given. [B,N,C].

    `tokens` stand in front of the patches, which form a `grid`. `window` is 0 where all tokens see all tokens.
    """

    heads: int
    form: Form
    dtypes: Dtypes
    tokens: int
    grid: tuple[int, int]
    window: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, path: Path | None = None) -> jax.Array:
        del train
        eps, scale = self.form.eps, self.form.layer_scale
        first, second = (None, None) if path is None else (Path(path.rate, key) for key in jax.random.split(path.key))
        y = LayerNorm(self.dtypes, eps, name="norm1")(x)
        rotary = not self.form.grid
        y = Attention(self.heads, self.dtypes, self.tokens, self.grid, rotary, self.window, name="attn")(y)
        x = x + drop_path(LayerScale(scale, self.dtypes, name="ls1")(y) if scale else y, first)
        y = LayerNorm(self.dtypes, eps, name="norm2")(x)
        y = MLP(4 * x.shape[-1], self.dtypes, name="mlp")(y)
        return x + drop_path(LayerScale(scale, self.dtypes, name="ls2")(y) if scale else y, second)


class PatchEmbed(nn.Module):
    """A convolution ("proj") whose kernel and stride are the patch: [B,H,W,3] to [B,H/patch,W/patch,features]."""

    features: int
    patch: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return of_patches(self.features, self.patch, self.dtypes, "proj")(x)


def resized_positions(positions: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Interpolates a square grid of learned positions bicubically, with antialiasing where it becomes smaller, as timm.

    Args:
      positions: [1,grid * grid,C].
      size: rows and columns.

    Returns:
      [1,rows,columns,C] in float32 or wider.
    """
    grid, channels = math.isqrt(positions.shape[1]), positions.shape[-1]
    square = positions.reshape(1, grid, grid, channels).astype(jnp.promote_types(jnp.float32, positions.dtype))
    return square if size == (grid, grid) else jax.image.resize(square, (1, *size, channels), "cubic")


class ViT(nn.Module):
    """Maps images [B,H,W,3] to {stride: features [B,ceil(H/stride),ceil(W/stride),C]} in `dtypes.compute`.

    With the patch as output stride there are the features of the last block alone. With twice the patch there is a
    pyramid at the strides patch / 4, patch / 2, patch and 2 patch: the outputs of four blocks, the last ones of four
    equal shares of the depth, interpolated bilinearly. It has no parameters: the convolutions that decoders begin with
    do what those of a neck would do. All features are normalised by the last normalisation ("norm").

    Feature i is centred in the cell of the pixels stride * i to stride * (i + 1). Images are padded to a multiple of
    the patch. The learned positions are interpolated.

    With a `window` the attention stays inside windows of so many patches a side, but for the last block of each quarter
    of the depth, as in ViTDet (arXiv 2203.16527). The tokens in front see everything and are seen in every window, so
    that weights that were trained without windows fit.
    """

    size: Size
    head: int
    form: Form
    output_stride: int
    dtypes: Dtypes
    remat: str = "none"
    drop_path: float = 0.0
    window: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        form, size, channels = self.form, x.shape[1:3], self.size.heads * self.head
        tokens = 1 + form.registers
        x = PatchEmbed(channels, form.patch, self.dtypes, name="patch_embed")(padded(x, form.patch))
        batch, rows, columns, _ = x.shape
        first = [self.param("cls_token", normal(1e-6), (1, 1, channels), self.dtypes.param)]
        if form.grid:
            shape = (1, 1 + form.grid**2, channels)
            positions = self.param("pos_embed", normal(0.02), shape, self.dtypes.param)
            first = [first[0] + positions[:, :1]]
            x = x + spread(resized_positions(positions[:, 1:], (rows, columns)), x.shape, self.dtypes)
        if form.registers:
            shape = (1, form.registers, channels)
            first.append(self.param("reg_token", normal(0.02), shape, self.dtypes.param))
        x = x.reshape(batch, rows * columns, channels)
        repeated = [jnp.broadcast_to(one, (batch, *one.shape[1:])).astype(x.dtype) for one in first]
        x = jnp.concatenate([*repeated, x], axis=1)

        make = functools.partial(Block, self.size.heads, form, self.dtypes, tokens, (rows, columns))
        quarter = self.size.blocks // LEVELS if self.window else 1
        windows = (self.window,) * (quarter - 1) + (0,)
        kinds = tuple(functools.partial(make, window) for window in windows)
        levels = LEVELS if self.output_stride > form.patch else 1
        rates = linear_rates(self.drop_path, self.size.blocks)
        row = Row(kinds[0], self.size.blocks, self.dtypes, self.remat, levels, rates, kinds[1:], name="blocks")
        out = row(x, train)
        norm = LayerNorm(self.dtypes, form.eps, name="norm")
        maps = [norm(x[:, tokens:]).reshape(batch, rows, columns, channels) for x in out.levels]
        if levels == 1:
            return {form.patch: of_image(maps[0], size, form.patch)}
        features = {}
        for i, x in enumerate(maps):
            stride = form.patch * 2**i // 4
            height, width = (-(-side * form.patch // stride) for side in (rows, columns))
            features[stride] = of_image(upsample(x, (height, width)).astype(self.dtypes.compute), size, stride)
            if i == 2:
                give_third_stage(self, features[stride])
        return features


def head_channels(form: Form, width: float) -> int:
    """The channels of an attention head; the number of heads stays.

    Args:
      form: of the network.
      width: the config's `model.width`.

    Raises:
      UserError: there are none, or rotary positions cannot divide them.
    """
    channels, each = round(HEAD * width), 1 if form.grid else 4
    if channels < 1 or channels % each:
        raise UserError(
            f"config.model.width={width}: gives {channels} channels for an attention head; expected a width of "
            f"{each / HEAD:g} or a multiple of it"
        )
    return channels


def strides(form: Form) -> dict[int, tuple[int, ...]]:
    """Output stride -> strides of the features; the pyramid where the patch can be divided by 4."""
    pyramid = {2 * form.patch: tuple(form.patch * 2**i // 4 for i in range(LEVELS))} if form.patch % 4 == 0 else {}
    return {form.patch: (form.patch,), **pyramid}


def feature_channels(size: Size, form: Form, width: float, output_stride: int) -> dict[int, int]:
    """The channels of the features.

    Args:
      size: of the network.
      form: of the network.
      width: the config's `model.width`.
      output_stride: a key of `strides`.

    Returns:
      {stride: channels}.

    Raises:
      UserError: as `head_channels`.
    """
    return dict.fromkeys(strides(form)[output_stride], size.heads * head_channels(form, width))


def _make(size: Size, form: Form, model: ModelConfig, dtypes: Dtypes) -> ViT:
    head = head_channels(form, model.width)
    return ViT(size, head, form, model.output_stride, dtypes, model.remat, model.drop_path, model.window)


# Matrices are split by output channels; for queries, keys and values these are all heads of all three.
SHARDING: Rules = (
    (r"patch_embed/proj/kernel", PartitionSpec(None, None, None, "fsdp")),
    (r"blocks/.*/kernel", PartitionSpec(None, "fsdp")),
    (r".*/(bias|scale|gamma)|cls_token|reg_token|pos_embed", PartitionSpec()),
)


def layer_of(blocks: int, path: str) -> int:
    """The layer of a parameter, as in MMSegmentation's layer-wise decay of BEiT and MAE.

    Args:
      blocks: number of blocks.
      path: of the parameter.

    Returns:
      0 for the embedding, positions and tokens, i + 1 for block i, blocks + 1 for the last normalisation.
    """
    part, *rest = path.split("/")
    if part == "blocks":
        return int(rest[0]) + 1
    return blocks + 1 if part == "norm" else 0


KINDS = {f"vit_{size}_{form}": (SIZES[size], FORMS[form]) for form in FORMS for size in SIZES}
BACKBONES = {
    name: Backbone(
        make=functools.partial(_make, size, form),
        channels=functools.partial(feature_channels, size, form),
        output_strides=tuple(strides(form)),
        normalisation="none",
        sharding=SHARDING,
        centre="cell",
        weight_names="mdp_jax.weights.names.vit",
        layers=Layers(functools.partial(layer_of, size.blocks), size.blocks + 2),
        stochastic_depth=True,
        windows=True,
        third_stage=tuple(stride for stride, levels in strides(form).items() if len(levels) == LEVELS),
    )
    for name, (size, form) in KINDS.items()
}
