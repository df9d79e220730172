"""Layers with PyTorch's semantics (METHOD.md section 2), and equal blocks in a row."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from mdp_jax.models import depthwise

AUXILIARY = "auxiliary"  # the collection of what an auxiliary head reads and gives
CONVOLUTION = "convolution"  # what outputs of convolutions are called where some intermediate values are kept


def _named(name: str) -> Callable:
    return jax.checkpoint_policies.save_only_these_names(name)


# What of a block, called with (x, train), is kept for the backward pass; the rest is computed again.
REMATERIALISATIONS = {
    "none": lambda block: block,
    "elementwise": lambda block: nn.remat(block, static_argnums=(2,), policy=_named(CONVOLUTION)),
    "blocks": lambda block: nn.remat(block, static_argnums=(2,)),
}
# The same for a block that is a function of (x, parameters, Path).
FUNCTIONS_REMATERIALISED = {
    "none": lambda block: block,
    "elementwise": lambda block: jax.checkpoint(block, policy=_named(CONVOLUTION)),
    "blocks": jax.checkpoint,
}


def normal(std: float) -> nn.initializers.Initializer:
    """An initializer that draws from a normal distribution of mean 0.

    Args:
      std: its standard deviation.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        # Drawn flat, which gives the same values and compiles in a third of the time.
        return std * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def kaiming_normal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """An initializer like PyTorch's `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.

    Args:
      key: random key.
      shape: [kh,kw,in,out].
      dtype: of the weights.
    """
    fan_out = shape[0] * shape[1] * shape[3]
    return normal(math.sqrt(2.0 / fan_out))(key, shape, dtype)


def whole(kernel: jax.Array) -> jax.Array:
    """Gathers a kernel that is split over the mesh axis "fsdp", where it is used.

    Without this the compiler may gather the activations in place of the kernel, and split them by channels: the samples
    are split over the same axis. Of a wide network on many devices these are many times as many bytes.

    Args:
      kernel: of a layer. Nothing is done outside a step on a mesh that has this axis (training/steps.py).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get("fsdp", 1) == 1:
        return kernel
    return jax.lax.with_sharding_constraint(kernel, PartitionSpec())


@dataclasses.dataclass(frozen=True)
class Dtypes:
    """The dtypes of a network: `compute` of activations, `param` of parameters."""

    compute: jnp.dtype
    param: jnp.dtype

    @property
    def wide(self) -> jnp.dtype:
        """The dtype of statistics and outputs: that of the computation, but float32 at least."""
        return jnp.promote_types(jnp.float32, self.compute)


class Conv(nn.Module):
    """2-D convolution with a square kernel, as PyTorch's Conv2d with padding dilation * (kernel // 2).

    Input [B,H,W,in], output [B,ceil(H/stride),ceil(W/stride),features] in `dtypes.compute`. `padding` gives other
    numbers of zeros before and after each axis.
    Parameters "kernel" [kernel,kernel,in/groups,features] and, with `bias`, "bias" [features]; the bias starts at 0.
    """

    features: int
    kernel: int
    dtypes: Dtypes
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    kernel_init: nn.initializers.Initializer = kaiming_normal
    padding: tuple[int, int] | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.dtypes.param)
        padding = self.padding or (self.dilation * (self.kernel // 2),) * 2
        x, kernel = x.astype(self.dtypes.compute), whole(kernel.astype(self.dtypes.compute))
        same = self.stride == 1 and self.kernel % 2 == 1 and padding == (self.dilation * (self.kernel // 2),) * 2
        if same and self.groups == self.features == x.shape[-1] > 1:
            y = depthwise.convolution(x, kernel, self.dilation)
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=(padding, padding),
                rhs_dilation=(self.dilation, self.dilation),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.groups,
            )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.dtypes.param)
            y = y + spread(bias, y.shape, self.dtypes)
        return checkpoint_name(y, CONVOLUTION)


def of_patches(features: int, patch: int, dtypes: Dtypes, name: str) -> Conv:
    """The convolution that begins a network of patches: kernel and stride are the patch, and there is a bias.

    Args:
      features: output channels.
      patch: pixels of a patch's side.
      dtypes: of the network.
      name: of the module in the one that it is made in.
    """
    return Conv(features, patch, dtypes, patch, 1, 1, True, normal(0.02), (0, 0), name=name)


class Dense(nn.Module):
    """Product of the last axis with a matrix, as PyTorch's Linear: [...,in] to [...,features] in `dtypes.compute`.

    Parameters "kernel" [in,features] and, with `bias`, "bias" [features]. They begin as those of the published networks
    of patches do: normal with standard deviation 0.02, and 0.
    """

    features: int
    dtypes: Dtypes
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", normal(0.02), (x.shape[-1], self.features), self.dtypes.param)
        y = x.astype(self.dtypes.compute) @ whole(kernel.astype(self.dtypes.compute))
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.dtypes.param)
            y = y + spread(bias, y.shape, self.dtypes)
        return checkpoint_name(y, CONVOLUTION)


def vector(x: jax.Array, ndim: int) -> jax.Array:
    """Gives [C] as many axes as what it is joined with has.

    Args:
      x: [C].
      ndim: number of axes.

    Returns:
      [1,...,1,C].
    """
    return x.reshape((1,) * (ndim - 1) + x.shape)


def spread(x: jax.Array, shape: tuple[int, ...], dtypes: Dtypes) -> jax.Array:
    """Gives a parameter, or a mean, the shape of what it is joined with; its gradient is summed in `dtypes.wide`.

    Args:
      x: [C], or as many axes as `shape` has, some of them 1.
      shape: of the result.
      dtypes: of the network.

    Returns:
      In `dtypes.compute`.
    """
    wide = x.astype(dtypes.wide) if x.ndim == len(shape) else vector(x.astype(dtypes.wide), len(shape))
    return jnp.broadcast_to(wide, shape).astype(dtypes.compute)


class LayerNorm(nn.Module):
    """Normalisation over the last axis, as PyTorch's LayerNorm; input and output [...,C].

    Mean and biased variance are computed in `dtypes.wide`, the output is in `dtypes.compute`. Parameters "scale" and
    "bias" [C].
    """

    dtypes: Dtypes
    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, wide = x.shape[-1:], self.dtypes.wide
        scale = self.param("scale", nn.initializers.ones, channels, self.dtypes.param)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtypes.param)
        x = x.astype(wide)
        centred = x - x.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.eps)
        y = y * vector(scale.astype(wide), x.ndim) + vector(bias.astype(wide), x.ndim)
        return y.astype(self.dtypes.compute)


class MLP(nn.Module):
    """Two matrix products ("fc1", "fc2") with the exact GELU between them: [...,C] to [...,hidden] to [...,C]."""

    hidden: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Dense(self.hidden, self.dtypes, name="fc1")(x)
        return Dense(x.shape[-1], self.dtypes, name="fc2")(nn.gelu(y, approximate=False))


def give_third_stage(module: nn.Module, features: jax.Array) -> None:
    """Gives an auxiliary head the features of a backbone's third stage; does nothing where there is no such head.

    Where a dilation has taken the place of a stride, they are not among those that the backbone returns. Initialising
    gives none, so that they are no part of a network's variables.

    Args:
      module: the backbone, or a part of it.
      features: [B,h,w,C].
    """
    if not module.is_initializing():
        module.sow(AUXILIARY, "third_stage", features, reduce_fn=lambda _, x: x, init_fn=lambda: None)


class Path(NamedTuple):
    """What a block draws by chance: for which samples its branches are left out.

    Attributes:
      rate: share of the samples, scalar in [0, 1).
      key: of the draw.
    """

    rate: jax.Array
    key: jax.Array


def linear_rates(last: float, count: int) -> tuple[float, ...]:
    """The rates of stochastic depth as in its paper and in timm: they rise evenly from 0 at the first block.

    Args:
      last: of the last block.
      count: number of blocks.
    """
    return tuple(np.linspace(0.0, last, count).tolist())


def drop_path(branch: jax.Array, path: Path | None) -> jax.Array:
    """Leaves out a residual branch for some samples, and scales that of the others (arXiv 1603.09382).

    Args:
      branch: [B,...], what would be added to the input of the block.
      path: of the draw; None: nothing is left out.

    Returns:
      For each sample branch / (1 - rate), or 0 with probability `rate`.
    """
    if path is None:
        return branch
    kept = jax.random.bernoulli(path.key, 1 - path.rate, (branch.shape[0],) + (1,) * (branch.ndim - 1))
    return jnp.where(kept, branch / (1 - path.rate).astype(branch.dtype), jnp.zeros((), branch.dtype))


def attended(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Attention of all tokens to all tokens; the softmax is in float32, or in float64.

    JAX's own function computes the softmax in float32 whatever it is given. Comparisons in float64 need more.

    Args:
      q: queries [B,N,heads,channels].
      k: keys, the same shape.
      v: values, the same shape.
      bias: what is added under the softmax, [1 or B,1 or heads,N,N]; None: nothing.

    Returns:
      [B,N,heads,channels].
    """
    if q.dtype != jnp.float64:
        return jax.nn.dot_product_attention(q, k, v, bias)
    logits = jnp.einsum("bnhc,bmhc->bhnm", q, k) / math.sqrt(q.shape[-1])
    weights = jax.nn.softmax(logits if bias is None else logits + bias, axis=-1)
    return jnp.einsum("bhnm,bmhc->bnhc", weights, v)


class Through(NamedTuple):
    """What blocks in a row give.

    Attributes:
      last: the output of the last one.
      levels: [levels, ...] of the last one in each of so many equal shares of the row.
    """

    last: jax.Array
    levels: jax.Array


def _given(path: Path | None) -> tuple[Path, ...]:
    """The last arguments of a block: a block without stochastic depth takes none."""
    return () if path is None else (path,)


class Row(nn.Module):
    """Equal blocks, or several kinds in turn, one after the other, named "0", "1", ...

    Each has parameters of its own, as if they stood one by one. But their arrays are stacked and the blocks run as one
    loop (lax.scan), so that the time of compilation does not grow with `count`. While intermediate values are captured,
    the blocks run one by one.

    Attributes:
      make: gives a block, a module that is called with (x, train), keeps shape and dtype of x, and has parameters
        alone: no statistics. With rates it is called with (x, train, Path) in training.
      count: number of blocks.
      dtypes: of the network.
      remat: a key of REMATERIALISATIONS.
      levels: so many outputs are given, of equal shares of the row; a divisor of `count`.
      rates: of stochastic depth, one for each block; () for none. In training they need the stream "dropout" of random
        numbers.
      others: give the blocks that follow in turn, where not all compute the same: block i is number i modulo the number
        of kinds. Their parameters have the same names and shapes. The number of kinds is a divisor of each share.
    """

    make: Callable[..., nn.Module]
    count: int
    dtypes: Dtypes
    remat: str = "none"
    levels: int = 1
    rates: tuple[float, ...] = ()
    others: tuple[Callable[..., nn.Module], ...] = ()

    def _paths(self, train: bool) -> Path | None:
        """Those of all blocks, with an axis in front; None where nothing is left out."""
        if not train or not any(self.rates):
            return None
        keys = jax.random.split(self.make_rng("dropout"), self.count)
        return Path(jnp.asarray(self.rates, self.dtypes.wide), keys)

    def _initialise(self, x: jax.Array, train: bool) -> None:
        """Draws the parameters of all blocks at once, which compiles the drawing of one."""

        def params(key: jax.Array) -> dict:
            return self.make(parent=None).init(key, x, train)["params"]

        stacked = jax.vmap(params)(jax.random.split(self.make_rng("params"), self.count))
        for i in range(self.count):
            self.put_variable("params", str(i), jax.tree.map(lambda leaf, i=i: leaf[i], stacked))

    def _stacked(self, numbers: range) -> dict:
        """The parameters of some blocks with an axis in front; kernels are cast first, which halves the copy."""

        def narrowed(path: tuple, leaf: jax.Array) -> jax.Array:
            return leaf.astype(self.dtypes.compute) if path[-1].key == "kernel" else leaf

        params = [jax.tree_util.tree_map_with_path(narrowed, self.variables["params"][str(i)]) for i in numbers]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> Through:
        share, kinds = self.count // self.levels, (self.make, *self.others)
        if self.is_initializing():
            self._initialise(x, train)
            return Through(x, jnp.stack([x] * self.levels))
        if self.is_mutable_collection("intermediates"):
            outputs, paths = [], self._paths(train)
            for i in range(self.count):
                path = jax.tree.map(lambda leaf, i=i: leaf[i], paths)
                x = kinds[i % len(kinds)](name=str(i))(x, train, *_given(path))
                outputs.append(x)
            return Through(x, jnp.stack(outputs[share - 1 :: share]))

        def block(make: Callable[..., nn.Module]) -> Callable[[jax.Array, dict, Path | None], jax.Array]:
            def applied(x: jax.Array, params: dict, path: Path | None) -> jax.Array:
                return cast(jax.Array, make(parent=None).apply({"params": params}, x, train, *_given(path)))

            return FUNCTIONS_REMATERIALISED[self.remat](applied)

        def step(carry: Through, at: tuple[jax.Array, tuple[tuple[dict, Path | None], ...]]) -> tuple[Through, None]:
            number, of_kinds = at
            x = carry.last
            for make, (params, path) in zip(kinds, of_kinds, strict=True):
                x = block(make)(x, params, path)
            # Every step writes; the last one of each share stays.
            return Through(x, carry.levels.at[number * len(kinds) // share].set(x)), None

        first = Through(x, jnp.zeros((self.levels, *x.shape), x.dtype))
        paths, turns = self._paths(train), range(len(kinds))
        own = [jax.tree.map(lambda leaf, i=i: leaf[i :: len(kinds)], paths) for i in turns]
        of_kinds = tuple((self._stacked(range(i, self.count, len(kinds))), own[i]) for i in turns)
        return jax.lax.scan(step, first, (jnp.arange(self.count // len(kinds)), of_kinds))[0]


class BatchNorm(nn.Module):
    """Batch normalisation as PyTorch's `BatchNorm2d(eps=1e-5, momentum=0.1)`; input and output [B,h,w,C].

    With `train` it normalises by mean and biased variance over B, h and w, and moves the running statistics (collection
    "batch_stats", leaves "mean" and "var" [C]) a tenth of the way to that mean and the *unbiased* variance (with a
    single value for each channel, where PyTorch raises, to the biased one). Otherwise it normalises by the running
    statistics. Statistics are computed and kept in `dtypes.wide`. B is the global batch: under jit on a mesh the means
    run over all devices.
    """

    dtypes: Dtypes
    momentum: float = 0.1
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels, wide = x.shape[-1:], self.dtypes.wide
        scale = self.param("scale", nn.initializers.ones, channels, self.dtypes.param)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtypes.param)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, wide)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, wide)
        x = x.astype(wide)
        if train:
            mean = x.mean((0, 1, 2))
            # Two passes: E[x^2] - E[x]^2 cancels where the mean is large against the spread, as in the image pooling
            # branch. The derivative of the variance by the mean is 0, so that none has to be computed.
            centred = x - jax.lax.stop_gradient(mean)[None, None, None, :]
            var = jnp.square(centred).mean((0, 1, 2))
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = jax.lax.rsqrt(var + self.eps) * scale.astype(wide)
        y = (x - mean[None, None, None, :]) * factor[None, None, None, :] + bias.astype(wide)[None, None, None, :]
        return y.astype(self.dtypes.compute)


class ConvBlock(nn.Module):
    """Convolution without bias ("conv"), batch normalisation ("bn"), ReLU."""

    features: int
    kernel: int
    dtypes: Dtypes
    dilation: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = Conv(self.features, self.kernel, self.dtypes, dilation=self.dilation, groups=self.groups, name="conv")
        y = conv(x)
        return nn.relu(BatchNorm(self.dtypes, name="bn")(y, train))
