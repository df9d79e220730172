"""Schedules and optimizers: values worked out by hand; layers and buffers of everything in the registries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from mdp_jax import checks, configs
from mdp_jax.evaluation import chosen_weights
from mdp_jax.models import network
from mdp_jax.models.entries import Layers
from mdp_jax.models.registry import BACKBONES
from mdp_jax.training import optim, programs, sharding
from mdp_jax.training.optim import cosine, cosine_with_warmup, kernels, layer_factors, polynomial, sgd
from tests import tiny


def test_warmup_and_cosine_by_hand():
    schedule = cosine_with_warmup(peak=0.8, warmup_steps=4, steps=12)
    np.testing.assert_allclose([schedule(i) for i in range(4)], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    # After the warm-up half a cosine over 8 steps: at its beginning, middle, and end.
    np.testing.assert_allclose([schedule(4), schedule(8), schedule(12)], [0.8, 0.4, 0.0], atol=1e-6)


def test_warmup_longer_than_the_run_stays_a_warmup():
    schedule = cosine_with_warmup(peak=1.0, warmup_steps=100, steps=10)
    np.testing.assert_allclose([schedule(0), schedule(9)], [0.1, 1.0], rtol=1e-6)


def test_polynomial_by_hand():
    schedule = polynomial(lr=0.01, lr_min=1e-4, power=0.9, steps=101)
    assert float(schedule(0)) == pytest.approx(0.01, rel=1e-6)
    assert float(schedule(50)) == pytest.approx(0.0099 * 0.5**0.9 + 1e-4, rel=1e-6)
    assert float(schedule(100)) == pytest.approx(1e-4, rel=1e-6)


def test_sgd_by_hand():
    params = {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(1.0)}}
    optimizer = sgd(lambda step: 0.1, momentum=0.5, weight_decay=0.25, decay_all=False)
    state = optimizer.init(params)
    gradient = {"conv": {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}}
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    # kernel: buffer 1 + 0.25 x 2 = 1.5, 2 - 0.15; bias, without decay: buffer 1, 1 - 0.1.
    np.testing.assert_allclose([params["conv"]["kernel"], params["conv"]["bias"]], [1.85, 0.9], rtol=1e-6)
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    # kernel: buffer 0.75 + 1 + 0.25 x 1.85 = 2.2125; bias: 0.5 + 1.
    np.testing.assert_allclose([params["conv"]["kernel"], params["conv"]["bias"]], [1.62875, 0.75], rtol=1e-6)


def test_decay_on_every_parameter():
    params = {"bn": {"scale": jnp.array(2.0)}}
    optimizer = sgd(lambda step: 1.0, momentum=0.0, weight_decay=0.25, decay_all=True)
    updates, _ = optimizer.update({"bn": {"scale": jnp.array(0.0)}}, optimizer.init(params), params)
    assert float(updates["bn"]["scale"]) == -0.5


def test_kernels():
    assert kernels({"a": {"kernel": 1, "bias": 2}, "bn": {"scale": 3}}) == {
        "a": {"kernel": True, "bias": False},
        "bn": {"scale": False},
    }


def config_of(**values):
    return dataclasses.replace(configs.FinetuneOptimConfig(), **values)


def moved(optimizer, params, gradients):
    """The parameters after a step with each of the gradients."""
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_checks_know_what_there_is():
    assert tuple(optim.OPTIMIZERS) == checks.OPTIMIZERS
    assert tuple(optim.SCHEDULES) == checks.SCHEDULES
    assert chosen_weights.WEIGHTS == checks.WEIGHTS


def test_cosine_by_hand():
    schedule = cosine(lr=1.0, lr_min=0.2, steps=5)
    np.testing.assert_allclose([schedule(i) for i in (0, 2, 4, 9)], [1.0, 0.6, 0.2, 0.2], rtol=1e-6)


def test_warmup_of_finetuning_by_hand():
    """Three steps up from a millionth, then PolyLR of power 1 over the seven others, its last one 0."""
    config = configs.finetune()
    config.optim.update({"lr": 0.6, "lr_min": 0.0, "power": 1.0, "warmup_steps": 3})
    config.steps = 10
    schedule = programs.finetuning_schedule(configs.typed(config))
    expected = [6e-7, 0.3 + 3e-7, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    np.testing.assert_allclose([schedule(i) for i in range(10)], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("rule", "peak"), [("linear", 0.4), ("sqrt", 0.2)])
def test_learning_rate_of_a_large_batch(rule, peak):
    own = configs.PretrainOptimConfig(lr=0.1, lr_rule=rule)
    assert configs.peak_learning_rate(own, 1024) == pytest.approx(peak)


def test_adamw_by_hand():
    """Two steps of torch's AdamW in plain Python, with the layer's factor, and no decay on the bias."""
    params = {"backbone": {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(1.0)}}}
    config = config_of(name="adamw", betas=(0.8, 0.9), weight_decay=0.25, layer_decay=0.5)
    made = optim.optimizer(config, lambda step: 0.1, Layers(lambda path: 1, 3), decay_all=True)
    gradients = [jax.tree.map(lambda p, g=g: jnp.full_like(p, g), params) for g in (1.0, -3.0)]
    found = moved(made, params, gradients)["backbone"]["conv"]
    # torch.optim.AdamW, 2.13, in float64 with a learning rate of 0.05.
    np.testing.assert_allclose([found["kernel"], found["bias"]], [1.927709412033505, 0.9767719120397549], rtol=1e-6)
    for name, start, decay in (("kernel", 2.0, 0.25), ("bias", 1.0, 0.0)):
        p, m, v, lr = start, 0.0, 0.0, 0.1 * 0.5
        for step, g in enumerate((1.0, -3.0), start=1):
            p -= lr * decay * p
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
            p -= lr * (m / (1 - 0.8**step)) / ((v / (1 - 0.9**step)) ** 0.5 + 1e-8)
        assert float(found[name]) == pytest.approx(p, rel=1e-5)


def test_lars_and_lamb_by_hand():
    """One step of a kernel of norm 5, gradient (0, 2); without decay."""
    params, gradient = {"kernel": jnp.array([3.0, 4.0])}, {"kernel": jnp.array([0.0, 2.0])}
    for name, step in (("lars", [0.0, 0.1 * 0.001 * 5]), ("lamb", [0.0, 0.1 * 5])):
        made = optim.optimizer(config_of(name=name, weight_decay=0.0), lambda step: 0.1, None, decay_all=False)
        np.testing.assert_allclose(moved(made, params, [gradient])["kernel"], [3 - step[0], 4 - step[1]], rtol=1e-5)


def test_two_steps_of_lars_and_lamb_with_decay_momentum_and_a_bias():
    """The formulas in plain NumPy: vectors never decay, and LARS does not scale their steps either."""
    start = {"kernel": np.array([3.0, 4.0]), "bias": np.array([1.0, 2.0])}
    gradients = [{"kernel": np.array([0.5, 2.0]), "bias": np.array([-1.0, 0.5])} for _ in range(2)]
    gradients[1] = {name: 3 * value - 1 for name, value in gradients[1].items()}
    rate, decay, momentum, (beta, beta2) = 0.1, 0.25, 0.5, (0.8, 0.9)
    expected = {"lars": {}, "lamb": {}}
    for name, value in start.items():
        own_decay = decay if name == "kernel" else 0.0
        p, buffer = value, 0.0
        for gradient in gradients:
            step = gradient[name] + own_decay * p
            trust = 0.001 * np.linalg.norm(p) / np.linalg.norm(step) if name == "kernel" else 1.0
            buffer = momentum * buffer + rate * trust * step
            p = p - buffer
        expected["lars"][name] = p
        p, m, v = value, 0.0, 0.0
        for number, gradient in enumerate(gradients, start=1):
            m, v = beta * m + (1 - beta) * gradient[name], beta2 * v + (1 - beta2) * gradient[name] ** 2
            step = m / (1 - beta**number) / (np.sqrt(v / (1 - beta2**number)) + 1e-6) + own_decay * p
            p = p - rate * np.linalg.norm(p) / np.linalg.norm(step) * step
        expected["lamb"][name] = p
    for kind, by_hand in expected.items():
        config = config_of(name=kind, weight_decay=decay, momentum=momentum, betas=(beta, beta2))
        made = optim.optimizer(config, lambda step: rate, None, decay_all=False)
        found = moved(made, *jax.tree.map(jnp.asarray, (start, gradients)))
        for name, value in by_hand.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=f"{kind} {name}")


def test_clipping_by_hand():
    """A gradient of norm 5, at most 1; one of norm 0.5 stays. The learning rate comes after."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    made = optim.optimizer(config_of(momentum=0.0, clip_norm=(1.0,)), lambda step: 0.5, None, decay_all=False)
    for gradient, step in (((3.0, 4.0), (-0.3, -0.4)), ((0.3, 0.4), (-0.15, -0.2))):
        found = moved(made, params, [dict(zip("ab", (jnp.full(1, g) for g in gradient), strict=True))])
        np.testing.assert_allclose([*found["a"], *found["b"]], step, rtol=1e-6)


@pytest.mark.parametrize("family", sorted({backbone.weight_names for backbone in BACKBONES.values()}))
def test_layers_of_a_family(family):
    """Every parameter has a layer, all layers up to the last block occur, and only kernels decay."""
    name = next(name for name, backbone in BACKBONES.items() if backbone.weight_names == family)
    model = dataclasses.replace(
        configs.FinetuneModelConfig(),
        backbone=name,
        width=0.125,
        output_stride=max(BACKBONES[name].output_strides),
        decoder=configs.DecoderConfig(name="identity"),
    )
    layers, images = network.layers(model), jnp.zeros((2, 64, 64, 3))
    params = jax.eval_shape(lambda: network.segmenter(model, 3).init(jax.random.key(0), images, train=False))["params"]
    paths = jax.tree_util.tree_leaves_with_path(params["backbone"])
    found = {layers.of(jax.tree_util.keystr(path, simple=True, separator="/")) for path, _ in paths}
    assert found == set(range(max(found) + 1)) and max(found) < layers.number
    factors = layer_factors(params, 0.5, layers)
    assert min(jax.tree.leaves(factors["backbone"])) == 0.5 ** (layers.number - 1)
    assert set(jax.tree.leaves(factors["classifier"])) == {1.0}
    shapes = jax.tree.leaves(jax.tree.map(lambda leaf, decays: not decays or leaf.ndim > 1, params, kernels(params)))
    assert all(shapes)


def test_published_layers():
    """MMSegmentation's numbers of ConvNeXt-T, stage-wise, num_layers = 6, and of ViT-B, layer-wise, num_layers = 12."""
    tiny_, base = BACKBONES["convnext_tiny"].layers, BACKBONES["vit_base_patch16"].layers
    assert tiny_.number == 8 and base.number == 14
    names = [
        "stem/0/kernel",
        "stages/1/downsample/1/kernel",
        "stages/0/blocks/2/gamma",
        "stages/3/blocks/0/mlp/fc1/bias",
    ]
    assert [tiny_.of(name) for name in names] == [0, 0, 1, 4]
    names = ["pos_embed", "cls_token", "patch_embed/proj/kernel", "blocks/0/norm1/scale", "blocks/11/attn/qkv/kernel"]
    assert [base.of(name) for name in names] == [0, 0, 0, 1, 12]
    assert base.of("norm/scale") == 13


def test_published_layers_of_swin():
    """SimMIM's numbers of Swin-T, of 2, 2, 6 and 2 blocks; its merging of stage 1 stands in stage 2 here."""
    layers = BACKBONES["swin_tiny"].layers
    assert layers.number == 14
    names = [
        "patch_embed/norm/scale",
        "layers/0/blocks/1/attn/relative_position_bias_table",
        "layers/2/downsample/reduction/kernel",
        "layers/2/blocks/0/mlp/fc1/kernel",
        "layers/3/blocks/1/attn/qkv/kernel",
        "norm3/scale",
    ]
    assert [layers.of(name) for name in names] == [0, 2, 4, 5, 12, 13]


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_buffers_lie_as_their_parameters(name):
    """Under fsdp, in both loops, every buffer of a kernel is split as the kernel is."""
    shardings = tiny.finetuning(
        tiny.finetune_config(optim__name=name, fsdp=2, optim__clip_norm="1.0", optim__layer_decay=0.5),
        sharding.make_mesh(2, 2),
        4,
    ).shardings
    leaves = jax.tree_util.tree_leaves_with_path(shardings.opt_state)
    specs = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.spec for path, leaf in leaves}
    kernels_ = {path: spec for path, spec in specs.items() if path.endswith("conv1/kernel")}
    assert kernels_ and set(kernels_.values()) == {PartitionSpec(None, None, None, "fsdp")}
    buffers = len(kernels_) // sum(
        jax.tree_util.keystr(path, simple=True, separator="/").endswith("conv1/kernel")
        for path, _ in jax.tree_util.tree_leaves_with_path(shardings.params)
    )
    assert buffers == (2 if name in ("adamw", "lamb") else 1)


@pytest.mark.parametrize("name", BACKBONES)
def test_sgd_is_remarked_on_where_there_is_no_batch_normalisation(name):
    model = dataclasses.replace(configs.ModelConfig(), backbone=name)
    said = optim.remarks("sgd", model)
    assert bool(said) == (BACKBONES[name].normalisation == "none")
    assert all(name in line and "adamw" in line for line in said)
    assert not optim.remarks("adamw", model)


def test_a_learning_rate_that_rises_is_remarked_on():
    """As where only `lr` is set, to one of AdamW."""
    (said,) = optim.remarks_of_rates(configs.FinetuneOptimConfig(lr=6e-5))
    assert said.startswith("config.optim.lr_min=0.0001: more than config.optim.lr=6e-05, so the learning rate rises")
    assert not optim.remarks_of_rates(configs.FinetuneOptimConfig(lr=1e-4))
