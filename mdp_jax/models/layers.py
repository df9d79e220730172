"""Convolution and batch normalisation with PyTorch's semantics (METHOD.md section 2)."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

CONVOLUTION = "convolution"  # what outputs of convolutions are called where some intermediate values are kept


def _named(name: str) -> Callable:
    return jax.checkpoint_policies.save_only_these_names(name)


# What of a block, called with (x, train), is kept for the backward pass; the rest is computed again.
REMATERIALISATIONS = {
    "none": lambda block: block,
    "elementwise": lambda block: nn.remat(block, static_argnums=(2,), policy=_named(CONVOLUTION)),
    "blocks": lambda block: nn.remat(block, static_argnums=(2,)),
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

    Input [B,H,W,in], output [B,ceil(H/stride),ceil(W/stride),features] in `dtypes.compute`.
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

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.dtypes.param)
        pad = self.dilation * (self.kernel // 2)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtypes.compute),
            kernel.astype(self.dtypes.compute),
            window_strides=(self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.dtypes.param)
            y = y + bias.astype(self.dtypes.compute)[None, None, None, :]
        return checkpoint_name(y, CONVOLUTION)


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
