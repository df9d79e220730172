"""A backbone and a decoder without batch normalisation, as a user would add them, with names for their weights."""

import flax.linen as nn
import pytest

from mdp_jax.models import registry
from mdp_jax.models.entries import Backbone, Decoder, DecoderNames
from mdp_jax.models.layers import Conv, Dtypes
from mdp_jax.weights.names import Recognised

# Of tests/tiny.py, with both.
OVERRIDES = {"model__backbone": "plain", "model__decoder__name": "plain"}
ONLY_THEIRS = {"mmseg": ("head.weight",)}


class PlainBackbone(nn.Module):
    """Two convolutions."""

    channels: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(Conv(self.channels, 5, self.dtypes, stride=4, bias=True, name="patches")(x))
        return {4: x, 8: nn.relu(Conv(2 * self.channels, 3, self.dtypes, stride=2, bias=True, name="body")(x))}


class PlainDecoder(nn.Module):
    """One convolution."""

    channels: int
    dtypes: Dtypes
    classifier_dropout: float = 0.0

    @nn.compact
    def __call__(self, features, train):
        return nn.relu(Conv(self.channels, 1, self.dtypes, bias=True, name="mix")(features[8]))


def modules(backbone, layout):
    return {"patches": "embed.0", "body": "stages.0"} if layout == "mmseg" else {}


def recognise(shapes, where):
    return Recognised("plain", "patches.weight", 64)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both under the name "plain", as long as a test runs."""
    backbone = Backbone(
        make=lambda model, dtypes: PlainBackbone(round(64 * model.width), dtypes),
        channels=lambda width, output_stride: {4: round(64 * width), 8: 2 * round(64 * width)},
        output_strides=(8,),
        normalisation="none",
        weight_names="tests.models.plain_parts",
    )
    names = DecoderNames(
        modules=lambda rates: {"decoder.mix": "decode_head.mix", "classifier.conv": "decode_head.conv_seg"},
        rates=lambda keys: 0,
        sized_by="mix.weight",
    )
    decoder = Decoder(
        make=lambda model, dtypes: PlainDecoder(model.decoder.channels, dtypes),
        reads=lambda output_stride: (8,),
        writes=lambda output_stride: 8,
        normalisation="none",
        layouts={"mmseg": names},
    )
    monkeypatch.setitem(registry.BACKBONES, "plain", backbone)
    monkeypatch.setitem(registry.DECODERS, "plain", decoder)
