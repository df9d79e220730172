import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.models import network
from mdp_jax.models.backbones import swin, vit
from mdp_jax.models.backbones.resnet import ResNet
from mdp_jax.models.layers import Dtypes
from mdp_jax.models.resizing import of_image, padded
from mdp_jax.parity import backbones as parity
from tests.models import seeded

FLOAT32 = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))


def shapes(module, size=(1, 32, 32, 3)):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(size), train=False))


def test_resnet50_equals_torchvisions(torch_outputs):
    model = ResNet("resnet50", 64, 8, FLOAT32)
    x = seeded.image("image", seeded.SIZE).astype(np.float32)
    y = seeded.quick_jit(lambda v, x: model.apply(v, x, train=False)[8])(seeded.variables(shapes(model)), x)
    expected = torch_outputs("torchvision_resnet50")["eval"]
    np.testing.assert_allclose(y[..., ::64], expected, atol=3e-6 * np.abs(expected).max())


def test_resnet50_with_a_deep_stem_equals_mmsegmentations(torch_outputs):
    model = ResNet("resnet50", 64, 8, FLOAT32, deep_stem=True)
    x = seeded.image("image", seeded.SIZE).astype(np.float32)
    y = seeded.quick_jit(lambda v, x: model.apply(v, x, train=False))(seeded.variables(shapes(model)), x)
    for stride, step in ((4, 16), (8, 64)):
        expected = torch_outputs("mmseg_resnet50_v1c")[str(stride)]
        np.testing.assert_allclose(y[stride][..., ::step], expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("library, name, stride", seeded.BACKBONES)
def test_backbones_equal_those_of_libraries(torch_outputs, library, name, stride):
    """Features and gradients of narrow networks of full depth, whose weights come by the way of a file, in float64.

    Golden values by `python -m tests.models.make_golden timm_convnext_tiny timm_vit_small_patch16 ..`.
    """
    expected = torch_outputs(f"{library}_{name}")
    shapes = {
        str(key): tuple(shape[shape > 0]) for key, shape in zip(expected["keys"], expected["shapes"], strict=True)
    }
    params = parity.read({key: parity.value_of(key, shape) for key, shape in shapes.items()}, library)
    model = parity.model_of(name, stride, "float64")
    found = parity.features_and_gradients(model, params, parity.images_of(tuple(expected["size"])))
    for stride, features in found["features"].items():
        scale = np.abs(expected[stride]).max()
        np.testing.assert_allclose(features[:, ::3, ::3, ::8], expected[stride], rtol=0, atol=1e-10 * scale)
    rows = seeded.rows(found["gradient"])
    rows = np.where(expected["gradients"] == 0, 0, rows)  # what the library has no bias for, ours trains
    scales = np.abs(expected["gradients"]).max(axis=1, keepdims=True)
    assert (np.abs(rows - expected["gradients"]) <= 1e-9 * np.maximum(scales, 1e-3)).all()


def test_gradients_of_what_a_library_has_not_are_not_compared():
    """The bias of keys, second of three parts, and the position of the class token: where all of theirs is 0."""
    ours = {"blocks.0.attn.qkv.bias": np.arange(1.0, 7), "pos_embed": np.arange(1.0, 7).reshape(1, 3, 2)}
    theirs = {
        "blocks.0.attn.qkv.bias": np.float64([1, 2, 0, 0, 5, 6]),
        "pos_embed": np.float64([[[0, 0], [3, 4], [5, 6]]]),
    }
    found = parity.without_new_leaves(ours, theirs)
    np.testing.assert_array_equal(found["blocks.0.attn.qkv.bias"], [1, 2, 0, 0, 5, 6])
    np.testing.assert_array_equal(found["pos_embed"], theirs["pos_embed"])
    theirs = {"blocks.0.attn.qkv.bias": np.ones(6), "pos_embed": np.ones((1, 3, 2))}
    assert all(parity.without_new_leaves(ours, theirs)[key] is value for key, value in ours.items())


@pytest.mark.parametrize(
    "backbone, parameters",
    # torchvision 0.29: resnet50 25,557,032 less the classifier's 2048 * 1000 + 1000, and so on.
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("resnet101", 44_549_160 - 2_049_000),
    ],
)
def test_number_of_parameters(backbone, parameters):
    leaves = jax.tree.leaves(shapes(ResNet(backbone, 64, 8, FLOAT32))["params"])
    assert sum(leaf.size for leaf in leaves) == parameters


def test_names_are_torchs():
    tree = shapes(ResNet("resnet18", 8, 8, FLOAT32))
    keys = {seeded.torch_key(path[1:]): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    assert keys["conv1.weight"] == (7, 7, 3, 8)
    assert keys["layer2.0.downsample.0.weight"] == (1, 1, 8, 16)
    assert keys["layer2.0.downsample.1.running_var"] == (16,)
    assert keys["layer4.1.bn2.weight"] == (64,)
    assert not any(key.startswith(("layer1.0.downsample", "layer2.1.downsample")) for key in keys)
    assert len(keys) == 20 + 4 * 20  # a convolution each, and scale, bias, mean and variance


@pytest.mark.parametrize("stride", [8, 16])
def test_feature_size_is_rounded_up(stride):
    model = ResNet("resnet18", 1, stride, FLOAT32)
    for size in (1, stride, stride + 1, 3 * stride - 1):
        x = jnp.zeros((1, size, 33, 3))
        features, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), x)
        assert features[stride].shape == (1, math.ceil(size / stride), math.ceil(33 / stride), 8)


@pytest.mark.parametrize("stride", [8, 16])
def test_feature_i_is_centred_on_pixel_s_times_i(stride):
    """With equal positive weights, the answer to one bright pixel at 4 * s is symmetric around feature 4."""
    model = ResNet("resnet18", 1, stride, FLOAT32)
    values = {"kernel": 0.1, "scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, values[path[-1].key], np.float32), shapes(model)
    )
    x = np.zeros((1, 8 * stride + 1, 8 * stride + 1, 3), np.float32)
    x[0, 4 * stride, 4 * stride] = 1.0
    y = np.asarray(seeded.quick_jit(lambda v, x: model.apply(v, x, train=False)[stride])(variables, x))[0, :, :, 0]
    assert y.shape == (9, 9)
    assert y.max() > 2 * y.min()
    np.testing.assert_allclose(y, y[::-1, ::-1], rtol=1e-4)


def test_dilation_takes_the_place_of_stride():
    """Bottlenecks at stride 8 compute what they compute at stride 16, at every second feature pixel."""
    x = seeded.image("image", seeded.SIZE).astype(np.float32)
    dense, sparse = ResNet("resnet50", 4, 8, FLOAT32), ResNet("resnet50", 4, 16, FLOAT32)
    variables = seeded.variables(shapes(dense))
    y8 = seeded.quick_jit(lambda v, x: dense.apply(v, x, train=False)[8])(variables, x)
    y16 = seeded.quick_jit(lambda v, x: sparse.apply(v, x, train=False)[16])(variables, x)
    np.testing.assert_allclose(y8[:, ::2, ::2], y16, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("remat", ["elementwise", "blocks"])
def test_computing_again_changes_no_value(remat):
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)

    def loss(model, params, batch_stats):
        variables = {"params": params, "batch_stats": batch_stats}
        y, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(y[8])), updated

    kept = ResNet("resnet18", 4, 8, FLOAT32)
    variables = jax.jit(lambda: kept.init(jax.random.key(0), x, train=False))()
    results = []
    for model in (kept, ResNet("resnet18", 4, 8, FLOAT32, remat)):
        value_and_gradient = jax.value_and_grad(
            lambda p, model=model: loss(model, p, variables["batch_stats"]), has_aux=True
        )
        results.append(jax.jit(value_and_gradient)(variables["params"]))
        kept_names = str(jax.make_jaxpr(value_and_gradient)(variables["params"])).count("remat")
        assert (kept_names > 0) == (model is not kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_tiny", "vit_small_patch16_dinov3"])
def test_bfloat16_has_softmax_and_normalisations_in_float32(name):
    """Every exponential and every root of the traced network is float32, every matrix product takes bfloat16."""
    config = base.finetune().model
    config.backbone, config.width = name, 1 / 16
    config.output_stride = network.BACKBONES[name].output_strides[-2:][0]
    config.compute_dtype = "bfloat16"
    backbone = network.segmenter(config, 3).backbone
    x = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: backbone.init(jax.random.key(0), x, train=False))
    traced = jax.make_jaxpr(lambda v: backbone.apply(v, x, train=False))(variables)
    kinds = {"exp": set(), "rsqrt": set(), "dot_general": set(), "conv_general_dilated": set()}

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in kinds:
                kinds[equation.primitive.name].add(equation.invars[0].aval.dtype.name)
            for inner in equation.params.values():
                if hasattr(inner, "jaxpr"):
                    walk(inner.jaxpr)

    walk(traced.jaxpr)
    assert kinds["rsqrt"] == {"float32"} and kinds["conv_general_dilated"] == {"bfloat16"}
    assert kinds["exp"] == (set() if "convnext" in name else {"float32"})
    assert kinds["dot_general"] == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(traced.out_avals)} == {"bfloat16"}


def test_an_image_of_any_size_is_padded_with_the_mean_colour():
    """Below and on the right; features of a padded image are those of the image with zeros in it."""
    x = seeded.image("padded", (1, 33, 40, 3)).astype(np.float32)
    whole = padded(jnp.asarray(x), 16)
    assert whole.shape == (1, 48, 48, 3)
    np.testing.assert_array_equal(whole[:, :33, :40], x)
    assert not np.any(whole[:, 33:]) and not np.any(whole[:, :, 40:])
    assert of_image(whole, (33, 40), 16).shape == (1, 3, 3, 3)


def test_attention_inside_shifted_windows_by_loops():
    """9 rows in two windows, 5 columns in one, along which nothing is shifted."""
    heads, channels, size, shift = 2, 4, (9, 5), swin.SHIFT
    module = swin.Attention(heads, shift, FLOAT32)
    x = seeded.image("windows", (1, *size, channels)).astype(np.float32)
    shapes_ = jax.eval_shape(lambda: module.init(jax.random.key(0), x))["params"]
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: seeded.image(jax.tree_util.keystr(path), leaf.shape).astype(np.float32), shapes_
    )
    found = np.asarray(module.apply({"params": params}, x))

    padded_ = np.zeros((14, 7, channels))
    padded_[: size[0], : size[1]] = x[0]
    qkv = padded_ @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    qkv = qkv.reshape(14, 7, 3, heads, channels // heads)
    table = params["relative_position_bias_table"].reshape(13, 13, heads)
    out = np.zeros((14, 7, channels))
    # Windows begin `shift` rows further down; the last one goes on at the top, in two parts that do not see each other.
    for rows in (range(3, 10), range(10, 14), range(3)):
        # Where a row stands in its window: those at the top are the last ones of the last window.
        places = {row: (row - shift) % 14 % 7 for row in rows}
        tokens = [(row, column) for row in rows for column in range(7)]
        for row, column in tokens:
            for head in range(heads):
                q = qkv[row, column, 0, head]
                logits = [
                    q @ qkv[r, c, 1, head] / np.sqrt(channels // heads)
                    + table[places[row] - places[r] + 6, column - c + 6, head]
                    for r, c in tokens
                ]
                weights = np.exp(logits) / np.sum(np.exp(logits))
                mean = sum(w * qkv[r, c, 2, head] for w, (r, c) in zip(weights, tokens, strict=True))
                out[row, column, 2 * head : 2 * head + 2] = mean
    expected = out @ params["proj"]["kernel"] + params["proj"]["bias"]
    np.testing.assert_allclose(found[0], expected[: size[0], : size[1]], atol=1e-5)


@pytest.mark.parametrize(("grid", "dtype"), [((3, 5), np.float32), ((4, 2), np.float32)])
def test_attention_inside_windows_of_a_vit_by_loops(grid, dtype):
    """Two tokens stand in front. The windows of 2 x 2 patches reach over the edge of the first grid."""
    tokens, window, shape = 2, 2, (2, 2 + grid[0] * grid[1], 3, 4)
    q, k, v = (seeded.image(name, shape).astype(dtype) for name in "qkv")
    found = jax.jit(lambda *x: vit.attended_in_windows(*x, tokens, grid, window))(q, k, v)
    assert found.dtype == dtype

    window_of = [None] * tokens + [
        (row // window, column // window) for row in range(grid[0]) for column in range(grid[1])
    ]
    expected = np.zeros(shape)
    for b, n, head in np.ndindex(shape[:3]):
        seen = [m for m, one in enumerate(window_of) if None in (one, window_of[n]) or one == window_of[n]]
        weights = np.exp(k[b, seen, head] @ q[b, n, head] / np.sqrt(shape[-1]))
        expected[b, n, head] = weights / weights.sum() @ v[b, seen, head]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_small_patch16", "vit_small_patch16_dinov3"])
def test_windows_of_a_vit_take_the_weights_of_one_without(name):
    """One window that holds all patches changes nothing; small ones change the features, of each output stride."""
    x = seeded.image("windows", (1, 48, 80, 3)).astype(np.float32)
    size, form = vit.KINDS[name]

    def features(window):
        return vit.ViT(size, 4, form, 32, FLOAT32, window=window)

    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            seeded.image(jax.tree_util.keystr(path), leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        ).astype(np.float32),
        jax.eval_shape(lambda: features(0).init(jax.random.key(0), x, train=False)),
    )
    whole, large, small = (
        seeded.quick_jit(lambda v, x, w=window: features(w).apply(v, x, train=False))(variables, x)
        for window in (0, 5, 2)
    )
    for stride, found in whole.items():
        np.testing.assert_allclose(large[stride], found, atol=1e-4)
        assert not np.allclose(small[stride], found, atol=1e-2)
        assert np.all(np.isfinite(small[stride]))
