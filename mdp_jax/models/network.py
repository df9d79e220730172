"""The networks as the loops use them, made from a config's `model` part (METHOD.md section 2)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.method.prototypes import normalise
from mdp_jax.models.deeplab import LAYOUTS
from mdp_jax.models.heads import Classifier, Projection
from mdp_jax.models.layers import Dtypes
from mdp_jax.models.resnet import DEPTHS, LAYERS, REMATERIALISATIONS, ResNet

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
PARAM_DTYPES = {"float32": jnp.float32, "float64": jnp.float64}

MOST_LOGITS = 2**26  # numbers that `most_likely` holds at one time: 256 MiB in float32


class PixelEncoder(nn.Module):
    """Images [B,H,W,3], normalised, to a unit vector for each feature pixel, [B,h,w,D], float32 or wider.

    h = ceil(H/s), w = ceil(W/s). Parameters {"backbone", "decoder", "projection"}. With `train`, "batch_stats" must be
    mutable.
    """

    backbone: nn.Module
    decoder: nn.Module
    projection: nn.Module

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = self.decoder(self.backbone(x, train), train)
        return normalise(self.projection(features, train))


class Segmenter(nn.Module):
    """Images [B,H,W,3], normalised, to logits at feature resolution, [B,h,w,C], float32 or wider.

    h = ceil(H/s), w = ceil(W/s). Parameters {"backbone", "decoder", "classifier"}. With `train`, "batch_stats" must be
    mutable, and the stream "dropout" given where a rate is positive. With `frozen_body` everything under the classifier
    runs as in evaluation (running statistics, no dropout) and lets no gradient through (METHOD.md section 6).
    """

    backbone: nn.Module
    decoder: nn.Module
    classifier: nn.Module
    frozen_body: bool = False

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        train_body = train and not self.frozen_body
        features = self.decoder(self.backbone(x, train_body), train_body)
        if self.frozen_body:
            features = jax.lax.stop_gradient(features)
        return self.classifier(features, train)


def pixel_encoder(model_config: ConfigDict) -> PixelEncoder:
    """The query or momentum encoder of a pretraining config's `model`.

    UserError: a value that is not on offer, or dropout, which pretraining does without (METHOD.md section 2).
    """
    if model_config.decoder.dropout != 0:
        raise UserError(f"config.model.decoder.dropout={model_config.decoder.dropout}: pretraining expects 0.0")
    dtypes = _dtypes(model_config)
    projection = Projection(model_config.projection.channels, model_config.projection.dim, dtypes)
    return PixelEncoder(_backbone(model_config, dtypes), _decoder(model_config, dtypes), projection)


def segmenter(model_config: ConfigDict, num_classes: int, frozen_body: bool = False) -> Segmenter:
    """The network of a fine-tuning config's `model`, for `num_classes` classes.

    UserError: a value that is not on offer.
    """
    dtypes = _dtypes(model_config)
    decoder = _decoder(model_config, dtypes)
    classifier = Classifier(num_classes, decoder.classifier_dropout, dtypes)
    return Segmenter(_backbone(model_config, dtypes), decoder, classifier, frozen_body)


def upsample(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear interpolation of [B,h,w,C] to [B,H,W,C], size = (H, W), in float32 or wider.

    As PyTorch's `F.interpolate(mode="bilinear", align_corners=False)`: no antialiasing, also when shrinking.
    """
    rows, columns = (_interpolation(logits.shape[axis + 1], size[axis]) for axis in (0, 1))
    return _interpolated(logits, rows, columns)


def most_likely(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The class of the greatest logit at each pixel, int32 [B,H,W], of [B,h,w,C] brought to size = (H, W).

    In bands of rows, one after another, where the logits of all pixels would be more than MOST_LOGITS numbers.
    """
    height, width = size
    bands = min(-(-len(logits) * height * width * logits.shape[-1] // MOST_LOGITS), height)
    if bands <= 1:
        return jnp.argmax(upsample(logits, size), axis=-1).astype(jnp.int32)
    rows, columns = (_interpolation(logits.shape[axis + 1], size[axis]) for axis in (0, 1))
    # The last band is filled up with the last row.
    places = np.minimum(np.arange(bands * -(-height // bands)), height - 1).reshape(bands, -1)

    def of_band(rows: jax.Array) -> jax.Array:
        return jnp.argmax(_interpolated(logits, rows, columns), axis=-1).astype(jnp.int32)

    labels = jax.lax.map(of_band, jnp.asarray(rows[places]))  # [bands, B, rows of a band, W]
    return jnp.moveaxis(labels, 0, 1).reshape(len(logits), -1, width)[:, :height]


def _interpolated(logits: jax.Array, rows, columns) -> jax.Array:
    """[B,h,w,C] by matrices [H,h] and [W,w] to [B,H,W,C], in float32 or wider."""
    logits = logits.astype(jnp.promote_types(jnp.float32, logits.dtype))
    rows, columns = (jnp.asarray(matrix, logits.dtype) for matrix in (rows, columns))
    highest = jax.lax.Precision.HIGHEST
    logits = jnp.einsum("Hh,bhwc->bHwc", rows, logits, precision=highest)
    return jnp.einsum("Ww,bHwc->bHWc", columns, logits, precision=highest)


def _interpolation(n_in: int, n_out: int) -> np.ndarray:
    """Matrix [n_out, n_in], float64, that interpolates linearly along an axis; rows sum to 1."""
    position = np.maximum((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0.0)
    low = np.floor(position).astype(int)
    fraction = position - low
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), low] = 1.0 - fraction
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += fraction
    return matrix


def _dtypes(model_config: ConfigDict) -> Dtypes:
    compute = _choice("compute_dtype", model_config.compute_dtype, COMPUTE_DTYPES)
    param = _choice("param_dtype", model_config.param_dtype, PARAM_DTYPES)
    if jnp.float64 in (compute, param) and not jax.config.jax_enable_x64:
        raise UserError("config.model: float64 expects the environment variable JAX_ENABLE_X64=1")
    return Dtypes(jnp.dtype(compute), jnp.dtype(param))


def _backbone(model_config: ConfigDict, dtypes: Dtypes) -> ResNet:
    _choice("backbone", model_config.backbone, DEPTHS)
    _choice("output_stride", model_config.output_stride, LAYERS)
    channels = round(64 * model_config.width)
    if channels < 1:
        raise UserError(f"config.model.width={model_config.width}: expected at least {1 / 64}, one channel in the stem")
    _choice("remat", model_config.remat, REMATERIALISATIONS)
    return ResNet(model_config.backbone, channels, model_config.output_stride, dtypes, model_config.remat)


def _decoder(model_config: ConfigDict, dtypes: Dtypes) -> nn.Module:
    config = model_config.decoder
    layout = _choice("decoder.layout", config.layout, LAYOUTS)
    if not 0 <= config.dropout < 1:
        raise UserError(f"config.model.decoder.dropout={config.dropout}: expected a rate from 0 to below 1")
    return layout(config.channels, tuple(config.rates), config.dropout, dtypes)


def _choice(key: str, value: object, choices: dict) -> object:
    if value not in choices:
        expected = ", ".join(str(name) for name in choices)
        raise UserError(f"config.model.{key}={value}: expected one of {expected}")
    return choices[value]


def feature_stride(model: ModelConfig) -> int:
    """Pixels from one feature under the head to the next."""
    return model.output_stride
