"""Networks of every decoder on a whole photo and on its tiles, with a backbone that sees one cell at a time."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs
from mdp_jax.evaluation import tiles, whole_photos
from mdp_jax.evaluation.loaded import Network
from mdp_jax.models import network
from mdp_jax.models.entries import Backbone
from mdp_jax.models.layers import of_patches
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.models.resizing import averaged
from tests.models import seeded

CLASSES, TILE = 5, 384
IMAGE = np.random.default_rng(0).integers(0, 256, (448, 736, 3), dtype=np.uint8)
IMAGE[:, :300] //= 3  # so that no tile has the mean of the photo


class Cells(nn.Module):
    """Features of patches of 4 x 4 pixels, and their means over the cells of larger strides."""

    dtypes: object
    first: int

    @nn.compact
    def __call__(self, x, train):
        x = of_patches(6, self.first, self.dtypes, "patches")(x)
        features = {self.first: nn.tanh(x)}
        if self.first == 4:
            for stride in (8, 16, 32):
                batch, height, width, channels = x.shape
                x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
                features[stride] = nn.tanh(x)
        return features


@pytest.fixture
def net_of(monkeypatch):
    """A function from a decoder and an output stride to a network."""

    def make(decoder, stride):
        first = 4 if stride % 4 == 0 and stride <= 32 else stride
        strides = (4, 8, 16, 32) if first == 4 else (first,)
        entry = Backbone(
            make=lambda model, dtypes: Cells(dtypes, first),
            channels=lambda width, output_stride: dict.fromkeys(strides, 6),
            output_strides=(stride,),
            normalisation="none",
        )
        monkeypatch.setitem(BACKBONES, f"cells{first}", entry)
        layout = next(iter(DECODERS[decoder].layouts), "")
        of_decoder = configs.DecoderConfig(name=decoder, layout=layout, channels=8, rates=(1, 2), dropout=0.0)
        model = configs.ModelConfig(backbone=f"cells{first}", output_stride=stride, decoder=of_decoder)
        module = network.segmenter(model, CLASSES)
        shapes = jax.eval_shape(
            functools.partial(module.init, train=False), jax.random.key(0), jnp.zeros((1, 64, 64, 3))
        )
        variables = {"batch_stats": {}} | seeded.variables(shapes)
        data = dataclasses.replace(configs.FinetuneDataConfig(), short_side=0)
        return Network(model, data, module, module, variables, [str(i) for i in range(CLASSES)])

    return make


def pools_of(decoder, stride):
    return DECODERS[decoder].pools(stride) if DECODERS[decoder].pools else None


def stride_of(decoder):
    return 32 if 32 in DECODERS[decoder].reads(8) else 8


@pytest.mark.parametrize("decoder", DECODERS)
def test_tiles_are_as_the_whole(net_of, decoder):
    """All decoders see less far than the margin of 96 pixels, but for the means of the whole photo."""
    stride = stride_of(decoder)
    net = net_of(decoder, stride)
    whole = net.logits_as_they_are(IMAGE)
    most = np.abs(whole).max()
    np.testing.assert_allclose(net.logits_as_they_are(IMAGE, tile=TILE), whole, atol=2e-5 * most)
    if pools_of(decoder, stride):  # with the means of its tile it differs
        cut = tiles.cut(IMAGE, TILE, stride)
        alone = tiles.cells_by_tiles(lambda one: net.logits_as_they_are(one.image), cut)
        assert np.abs(alone - whole).max() > 1e-2 * most
    else:
        assert whole_photos.variables_of_tiles(net.model, None, net.variables, None)(None) is net.variables


def test_labels_by_tiles_are_those_of_the_whole(net_of):
    net = net_of("deeplabv3", 8)
    found = net.predict(IMAGE, tile=TILE)
    assert (found == net.predict(IMAGE)).mean() > 0.9999 and len(np.unique(found)) > 1  # of equal logits either may win


def test_each_feature_is_counted_once(net_of):
    """The means are those of the features of the whole photo, filled up as the tiles are."""
    net = net_of("upernet", 32)
    cut = tiles.cut(np.ascontiguousarray(np.resize(IMAGE, (300, 800, 3))), 256, 32)
    given = whole_photos.variables_of_tiles(net.model, net._normalise, net.variables, cut)(next(iter(cut)))
    features = network.backbone_features(net.model, net.variables, net._normalise(jnp.asarray(cut.photo[None])))[32]
    for side in pools_of("upernet", 32).sides:
        np.testing.assert_allclose(given["whole"]["decoder"][f"means_{side}"], averaged(features, side), atol=1e-5)


def test_tiles_begin_where_features_do(net_of):
    """Patches of 14 pixels, as those of DINOv2, are no parts of 32."""
    net = net_of("identity", 14)
    photo = np.ascontiguousarray(np.resize(IMAGE, (14 * 20, 14 * 55, 3)))
    np.testing.assert_allclose(net.logits_as_they_are(photo, tile=256), net.logits_as_they_are(photo), atol=1e-5)
    assert tiles.grid(14) == 42 and all(tiles.grid(stride) == 32 for stride in (1, 4, 8, 16, 32))
