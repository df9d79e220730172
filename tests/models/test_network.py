import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mdp_jax import configs as base
from mdp_jax.errors import UserError
from mdp_jax.models import network, resizing
from mdp_jax.models.network import pixel_encoder, segmenter, upsample
from tests.models import seeded


def narrow(config, **values):
    """The `model` part of a config, made small."""
    model = config.model
    model.backbone, model.width = "resnet18", 1 / 16
    model.decoder.channels, model.decoder.rates, model.decoder.dropout = seeded.CHANNELS, seeded.RATES, 0.0
    model.update(values)
    return model


def encoder_config(**values):
    config = base.pretrain()
    config.model.projection.channels, config.model.projection.dim = 8, 4
    return narrow(config, **values)


def variables_of(module):
    init = functools.partial(module.init, x=jnp.zeros((1, 32, 32, 3)), train=False)
    return seeded.variables(jax.eval_shape(init, jax.random.key(0)))


def training_pass(case):
    """A function of parameters to what make_golden.narrow computes, and those parameters, in float64."""
    backbone, channels, stride, layout = seeded.NARROW[case]
    config = narrow(base.finetune(), backbone=backbone, width=channels / 64, output_stride=stride)
    config.decoder.layout, config.compute_dtype, config.param_dtype = layout, "float64", "float64"
    return passed(config)


def passed(config):
    model = segmenter(config, seeded.CLASSES)
    variables = variables_of(model)
    x = jnp.asarray(seeded.image("image", seeded.SIZE))

    def loss(params):
        logits, updated = model.apply({**variables, "params": params}, x, train=True, mutable="batch_stats")
        return (logits * jnp.asarray(seeded.image("loss", logits.shape))).mean(), (logits, updated["batch_stats"])

    return loss, variables["params"]


def plus_training_pass():
    """As `training_pass`, for make_golden.mmseg_deeplabv3plus."""
    config = narrow(base.finetune(), backbone="resnet18_v1c", width=seeded.PLUS["stem"] / 64)
    config.decoder.name, config.decoder.channels = "deeplabv3plus", seeded.PLUS["channels"]
    config.decoder.rates, config.compute_dtype, config.param_dtype = seeded.PLUS["rates"], "float64", "float64"
    return passed(config)


@pytest.mark.parametrize("decoder", seeded.HEADS["kinds"])
def test_decoders_equal_mmsegmentations_heads(torch_outputs, decoder):
    """Golden values by `python -m tests.models.make_golden mmseg_upernet mmseg_fcn mmseg_segformer`."""
    config = narrow(base.finetune(), width=seeded.HEADS["stem"] / 64, output_stride=32)
    config.decoder.name, config.decoder.channels = decoder, seeded.HEADS["channels"]
    config.compute_dtype = config.param_dtype = "float64"
    with jax.enable_x64(True):
        loss, params = passed(config)
        gradients, (logits, statistics) = seeded.quick_jit(jax.grad(loss, has_aux=True))(params)
    expected = torch_outputs(f"mmseg_{decoder}")
    assert_same_pass(logits, statistics, expected)
    np.testing.assert_allclose(rows(gradients), expected["gradients"], rtol=1e-8, atol=1e-12)


def rows(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return seeded.rows({seeded.torch_key(path): np.asarray(leaf) for path, leaf in leaves})


def assert_same_pass(logits, statistics, expected):
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(rows(statistics), expected["statistics"], rtol=1e-9, atol=1e-11)


def test_training_pass_equals_torch(torch_outputs):
    with jax.enable_x64(True):
        loss, params = training_pass("resnet50_d16")
        _, (logits, statistics) = seeded.quick_jit(loss)(params)
    assert_same_pass(logits, statistics, torch_outputs("resnet50_d16"))


def test_training_pass_and_gradients_equal_torch(torch_outputs):
    with jax.enable_x64(True):
        loss, params = training_pass("resnet18_d8")
        gradients, (logits, statistics) = seeded.quick_jit(jax.grad(loss, has_aux=True))(params)
    expected = torch_outputs("resnet18_d8")
    assert_same_pass(logits, statistics, expected)
    np.testing.assert_allclose(rows(gradients), expected["gradients"], rtol=1e-8, atol=1e-12)


def test_deeplabv3plus_equals_mmsegmentations(torch_outputs):
    with jax.enable_x64(True):
        loss, params = plus_training_pass()
        gradients, (logits, statistics) = seeded.quick_jit(jax.grad(loss, has_aux=True))(params)
    expected = torch_outputs("mmseg_deeplabv3plus")
    assert_same_pass(logits, statistics, expected)
    np.testing.assert_allclose(rows(gradients), expected["gradients"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("most", [resizing.MOST_WEIGHTS, 0], ids=["matrices", "neighbours"])
def test_upsample_equals_torch(torch_outputs, monkeypatch, most):
    monkeypatch.setattr(resizing, "MOST_WEIGHTS", most)
    expected = torch_outputs("upsample")
    for i, (shape, size) in enumerate(seeded.UPSAMPLE_CASES):
        y = upsample(jnp.asarray(seeded.image("logits", shape), jnp.float32), size)
        np.testing.assert_allclose(y, expected[str(i)], atol=1e-6)


@pytest.mark.parametrize(("most", "bands"), [(2**26, 1), (2 * 25 * 13 * 5 // 3, 4), (1, 25)])
def test_most_likely_class_in_bands_of_rows(monkeypatch, most, bands):
    """Each at its own size: 25 rows in bands of 7 are 28, in bands of one they are 25."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 5)), jnp.float32)
    expected = np.argmax(upsample(logits, (25, 13)), axis=-1)
    looped = []
    genuine = jax.lax.map
    monkeypatch.setattr(resizing, "MOST_LOGITS", most)
    monkeypatch.setattr(jax.lax, "map", lambda function, rows: looped.append(len(rows)) or genuine(function, rows))
    found = network.most_likely(logits, (25, 13))
    np.testing.assert_array_equal(found, expected.astype(np.int32), strict=True)
    assert looped == ([bands] if bands > 1 else [])


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (1, 5), (5, 1), (3, 7), (7, 3), (200, 1597)])
def test_the_interpolation_of_a_size_that_is_not_known_yet(n_in, n_out):
    found = resizing._interpolation_of_any_size(n_in, n_out)
    np.testing.assert_allclose(found, resizing.interpolation(n_in, n_out), atol=1e-6)


def test_upsample_in_a_program_for_any_size():
    h, w, height, width = export.symbolic_shape("h, w, height, width")

    def enlarged(logits, image):
        return upsample(logits, image.shape)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, h, w, 2), (height, width))]
    program = export.export(jax.jit(enlarged))(*shapes)
    logits = jnp.asarray(seeded.image("logits", (1, 3, 4, 2)), jnp.float32)
    np.testing.assert_allclose(program.call(logits, jnp.zeros((7, 5))), upsample(logits, (7, 5)), atol=1e-5)


@pytest.mark.parametrize("weights", [resizing.MOST_WEIGHTS, 0], ids=["matrices", "neighbours"])
@pytest.mark.parametrize("most", [2**26, 2 * 25 * 13 * 5 // 3, 1])
def test_probabilities_in_bands_of_rows(monkeypatch, most, weights):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 5)), jnp.float32)
    exponentials = np.exp(np.asarray(upsample(logits, (25, 13)), np.float64))
    monkeypatch.setattr(resizing, "MOST_LOGITS", most)
    monkeypatch.setattr(resizing, "MOST_WEIGHTS", weights)
    found = network.probabilities(logits, (25, 13))
    np.testing.assert_allclose(found, exponentials / exponentials.sum(axis=-1, keepdims=True), atol=1e-6)


def test_a_side_of_many_pixels_makes_no_large_matrix():
    """It had 2.7 GB, or 537 million weights, of which all but 131,000 were 0."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 8188, 2)), jnp.float32)
    program = jax.jit(network.most_likely, static_argnums=1).lower(logits, (3, 65500)).compile()
    memory = program.memory_analysis()
    constants = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    assert constants + memory.output_size_in_bytes < 16 << 20
    few = np.arange(10)  # at the left border, where pixel i lies at (i + 0.5) / 8 - 0.5
    at = np.maximum((few + 0.5) * 8188 / 65500 - 0.5, 0)
    first = np.asarray(logits[0, 1])  # the last row is the second one
    expected = first[0] * (1 - at[:, None]) + first[1] * at[:, None]
    np.testing.assert_array_equal(program(logits)[0, 2, :10], expected.argmax(axis=-1))


def test_upsample_by_hand():
    x = jnp.array([0.0, 4.0], jnp.bfloat16).reshape(1, 1, 2, 1)
    y = upsample(x, (1, 4))
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y.ravel(), [0.0, 1.0, 3.0, 4.0])


def test_encoder_gives_unit_vectors_in_float32_from_bfloat16_too():
    x = jnp.asarray(seeded.image("image", (2, 33, 40, 3)), jnp.float32)
    outputs = {}
    for compute in ("float32", "bfloat16"):
        model = pixel_encoder(encoder_config(compute_dtype=compute))
        variables = variables_of(model)
        assert set(variables["params"]) == {"backbone", "decoder", "projection"}
        y, updated = seeded.quick_jit(functools.partial(model.apply, train=True, mutable="batch_stats"))(variables, x)
        assert (y.shape, y.dtype) == ((2, 5, 5, 4), jnp.float32)
        np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.ones((2, 5, 5)), rtol=1e-6)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((variables, updated))} == {"float32"}
        outputs[compute] = y
    assert 0.9 < np.sum(outputs["float32"] * outputs["bfloat16"], axis=-1).mean() < 1.0 - 1e-6


def test_eight_devices_equal_one():
    """Batch statistics, outputs and gradients of the decoder are those of the global batch, the pooled branch's too."""
    decoder = segmenter(narrow(base.finetune()), 5).decoder
    x = seeded.image("mesh", (8, 5, 6, 4)).astype(np.float32)
    factor = seeded.image("factor", (8, 5, 6, seeded.CHANNELS)).astype(np.float32)
    variables = seeded.variables(jax.eval_shape(lambda: decoder.init(jax.random.key(0), {8: x}, train=False)))

    @seeded.quick_jit
    def step(variables, x, factor):
        def loss(params):
            y, updated = decoder.apply({**variables, "params": params}, {8: x}, train=True, mutable="batch_stats")
            return (y * factor).mean(), (y, updated)

        return jax.grad(loss, has_aux=True)(variables["params"])

    results = []
    for devices in (1, 8):
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
        replicated, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
        results.append(step(jax.device_put(variables, replicated), *jax.device_put((x, factor), split)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


def test_frozen_body_keeps_statistics_and_takes_no_gradient():
    config = narrow(base.finetune())
    config.decoder.dropout = 0.5
    model = segmenter(config, 5, frozen_body=True)
    variables = variables_of(model)
    x = jnp.asarray(seeded.image("image", (2, 16, 16, 3)), jnp.float32)

    def loss(params, seed):
        rngs = {"dropout": jax.random.key(seed)}
        logits, updated = model.apply({**variables, "params": params}, x, train=True, mutable="batch_stats", rngs=rngs)
        return jnp.square(logits).sum(), (logits, updated["batch_stats"])

    step = seeded.quick_jit(jax.grad(loss, has_aux=True))
    gradients, (logits, statistics) = step(variables["params"], 0)
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])
    for part in ("backbone", "decoder"):
        assert all(not leaf.any() for leaf in jax.tree.leaves(gradients[part]))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients["classifier"]))
    assert (logits != step(variables["params"], 1)[1][0]).any()  # the classifier's dropout is on


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("backbone", "resnet52", "config.model.backbone=resnet52: expected one of resnet18, resnet34, resnet50"),
        ("output_stride", 12, "config.model.output_stride=12: expected 8, 16 or 32 with config.model.backbone="),
        ("compute_dtype", "float16", "config.model.compute_dtype=float16: expected one of float32, bfloat16, float64"),
        ("param_dtype", "bfloat16", "config.model.param_dtype=bfloat16: expected one of float32, float64"),
        ("param_dtype", "float64", "JAX_ENABLE_X64=1"),
        ("width", 0.001, "config.model.width=0.001: expected at least 0.015625"),
        ("decoder.name", "v3plus", "config.model.decoder.name=v3plus: expected one of deeplabv3, deeplabv3plus"),
        ("decoder.layout", "v3plus", "config.model.decoder.layout=v3plus: expected one of mmseg, torchvision"),
    ],
)
def test_values_not_on_offer(key, value, expected):
    for config, make in ((base.pretrain(), pixel_encoder), (base.finetune(), lambda model: segmenter(model, 5))):
        config.model.update_from_flattened_dict({key: value})
        with pytest.raises(UserError) as error:
            make(config.model)
        message = str(error.value)
        assert "\n" not in message
        assert expected in message


def test_dropout_is_a_rate_and_none_in_pretraining():
    config = base.pretrain().model
    config.decoder.dropout = 0.1
    with pytest.raises(UserError, match=r"config\.model\.decoder\.dropout=0\.1: expected 0\.0 in pretraining"):
        pixel_encoder(config)
    config.decoder.dropout = 1.0
    with pytest.raises(UserError, match=r"config\.model\.decoder\.dropout=1\.0: expected a rate"):
        segmenter(config, 5)
