"""What the entries of the registry say about themselves is true, and networks of any of them can be made."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax import schema
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.layers import AUXILIARY, Dtypes
from mdp_jax.models.registry import BACKBONES, DECODERS, network_in_words
from tests.models import plain_parts, seeded

SIZE = (2, 33, 40, 3)
# The first of each family; the others differ by their sizes.
FAMILIES = {entry.weight_names: name for name, entry in reversed(BACKBONES.items())}


def pretraining(**values):
    """The `model` of a small network."""
    config = base.pretrain().model
    config.width, config.decoder.channels, config.decoder.rates = 1 / 16, 32, (1, 2)
    config.projection.channels, config.projection.dim = 8, 4
    config.update_from_flattened_dict(values)
    return config


def typed_model(model, **values):
    """The typed form of a `model`, with other values."""
    return dataclasses.replace(schema.make(base.PretrainModelConfig, model, "config.model."), **values)


def with_decoder(name, **values):
    layout = next(iter(DECODERS[name].layouts), "")
    return pretraining(**{"decoder.name": name, "decoder.layout": layout, **values})


def shapes(module):
    image = jax.ShapeDtypeStruct(SIZE, jnp.float32)
    return jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, train=False), image)


def size_at(stride):
    return tuple(math.ceil(side / stride) for side in SIZE[1:3])


def names_of(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_the_features_that_they_declare(name):
    entry = BACKBONES[name]
    for output_stride in entry.output_strides:
        model = pretraining(backbone=name, output_stride=output_stride)
        features, variables = shapes(network.segmenter(model, 3).backbone)
        channels = entry.channels(model.width, output_stride)
        assert output_stride in channels
        assert {s: f.shape for s, f in features.items()} == {s: (2, *size_at(s), c) for s, c in channels.items()}
        assert ("batch_stats" in variables) == (entry.normalisation == "batch")
        assert set(variables) <= {"params", "batch_stats"}
        if name in FAMILIES.values():
            backbone = network.segmenter(model, 3).backbone
            apply = functools.partial(backbone.apply, x=jnp.zeros(SIZE), train=False, mutable=[AUXILIARY])
            _, given = jax.eval_shape(apply, variables)
            assert bool(given) == (output_stride in entry.third_stage)
            assert {leaf.shape[0] for leaf in jax.tree.leaves(given)} <= {2}


def test_an_auxiliary_head_reads_the_third_stage():
    """Of a dilated network too, whose third and fourth stage have the same stride. It has MMSegmentation's form."""
    config = base.finetune().model
    config.backbone, config.width, config.decoder.name, config.decoder.channels = "resnet18", 1 / 16, "fcn", 4
    config.auxiliary.weight, config.auxiliary.channels, config.decoder.dropout = 0.4, 6, 0.0
    model = schema.make(base.FinetuneModelConfig, config, "config.model.")
    module, x = network.segmenter(model, 3), jax.random.normal(jax.random.key(0), SIZE)

    @seeded.quick_jit
    def both():
        variables = module.init(jax.random.key(1), x, train=False)
        assert set(variables["params"]["auxiliary"]) == {"convs_0", "classifier"}
        weights = {name: variables[name] for name in ("params", "batch_stats")}
        capture = {"mutable": ["batch_stats", "intermediates", AUXILIARY], "capture_intermediates": True}
        _, found = module.apply(weights, x, train=True, **capture)
        (third,) = found["intermediates"]["backbone"]["layer3"]["__call__"]
        own = {name: weights[name]["auxiliary"] for name in weights}
        alone, _ = module.auxiliary.clone(parent=None).apply(own, third, True, mutable=["batch_stats"])
        return found[AUXILIARY]["logits"], alone, third

    logits, alone, third = both()
    np.testing.assert_allclose(logits, alone, atol=1e-6)
    assert third.shape[-1] == 16 and logits.shape == (2, *size_at(8), 3)  # 256 / 16 channels, as the paper's layer3
    with pytest.raises(UserError, match=r"auxiliary.weight: config.model.backbone=vit_small_patch14_dinov2 .* has no"):
        network.segmenter(dataclasses.replace(model, backbone="vit_small_patch14_dinov2", output_stride=14), 3)


DEEP = {family: name for family, name in FAMILIES.items() if BACKBONES[name].stochastic_depth}


@pytest.mark.parametrize("name", DEEP.values())
def test_stochastic_depth_is_of_training_alone(name):
    """The key of the step decides it; in evaluation, and at a rate of 0, the network is as without it."""
    entry, x = BACKBONES[name], jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    model = pretraining(backbone=name, output_stride=entry.output_strides[0])
    plain, deep = (network.segmenter(typed_model(model, drop_path=rate), 1).backbone for rate in (0.0, 0.9))

    @seeded.quick_jit
    def outputs():
        params = deep.init(jax.random.key(1), x, train=False)["params"]
        # Factors of branches begin near 0, where it makes no difference whether a branch is left out.
        params = jax.tree_util.tree_map_with_path(lambda path, p: p + 1.0 * (path[-1].key == "gamma"), params)

        def of(module, train, **rngs):
            return module.apply({"params": params}, x, train, rngs=rngs)[model.output_stride]

        first, second = jax.vmap(lambda key: of(deep, True, dropout=key))(jax.random.split(jax.random.key(2)))
        return of(plain, True), of(deep, False), first, second

    evaluated, deep_evaluated, first, second = outputs()
    np.testing.assert_array_equal(evaluated, deep_evaluated)
    assert not np.allclose(first, evaluated) and not np.allclose(first, second)
    with pytest.raises(UserError, match=r"config.model.drop_path=1.0: expected a rate from 0 to below 1"):
        network.segmenter(typed_model(model, drop_path=1.0), 1)
    with pytest.raises(UserError, match=r"config.model.drop_path=0.5: expected 0.0 in pretraining"):
        network.pixel_encoder(typed_model(model, drop_path=0.5))
    with pytest.raises(UserError, match=rf"backbone=resnet18, which has no stochastic depth; those that have .*{name}"):
        network.segmenter(typed_model(model, drop_path=0.5, backbone="resnet18", output_stride=8), 1)


def test_windows_are_of_networks_that_have_them():
    having = [name for name, entry in BACKBONES.items() if entry.windows]
    for name in having:
        model = pretraining(backbone=name, output_stride=BACKBONES[name].output_strides[0])
        assert network.segmenter(typed_model(model, window=3), 1).backbone.window == 3
    with pytest.raises(UserError, match=r"config.model.window=-1: expected a number of patches, or 0"):
        network.segmenter(typed_model(pretraining(backbone="resnet18"), window=-1), 1)
    with pytest.raises(
        UserError, match=rf"window=3: expected 0 with .*=resnet18, .* that can have them are {having[0]}"
    ):
        network.segmenter(typed_model(pretraining(backbone="resnet18"), window=3), 1)


def first_fitting(name):
    """The first output stride of a ResNet at which a decoder finds the features that it reads."""
    entry, reads = BACKBONES["resnet18"], DECODERS[name].reads
    return next(s for s in entry.output_strides if set(reads(s)) <= entry.channels(1.0, s).keys())


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("coarser", [1, 2])
def test_decoders_write_where_they_say(name, coarser):
    output_stride = min(coarser * first_fitting(name), 32)
    model = with_decoder(name, output_stride=output_stride, backbone="resnet18")
    stride = network.feature_stride(model)
    assert stride == DECODERS[name].writes(output_stride)
    for module, outputs in ((network.segmenter(model, 3), 3), (network.pixel_encoder(model), 4)):
        y, variables = shapes(module)
        assert y.shape == (2, *size_at(stride), outputs)
        assert ("decoder" in variables["batch_stats"]) == (DECODERS[name].normalisation == "batch")


def rules_of(params, model, head):
    """Name of each parameter -> PartitionSpecs of the rules that match it."""
    rules = network.sharding_rules(model, head)
    return {name: [spec for pattern, spec in rules if re.fullmatch(pattern, name)] for name in names_of(params)}


@pytest.mark.parametrize("name", BACKBONES)
def test_each_parameter_of_a_backbone_has_one_rule_of_sharding(name):
    model = pretraining(backbone=name, output_stride=BACKBONES[name].output_strides[0])
    params = {"backbone": shapes(network.segmenter(model, 3).backbone)[1]["params"]}
    assert {len(specs) for specs in rules_of(params, model, "classifier").values()} == {1}


@pytest.mark.parametrize("head", ["projection", "classifier"])
@pytest.mark.parametrize("name", DECODERS)
def test_sharding_splits_the_output_channels_of_kernels(name, head):
    model = with_decoder(name, backbone="resnet18", output_stride=first_fitting(name))
    module = network.pixel_encoder(model) if head == "projection" else network.segmenter(model, 3)
    params = shapes(module)[1]["params"]
    for leaf, specs in rules_of(params, model, head).items():
        whole = not leaf.endswith("kernel") or any(name in leaf for name in ("classifier", "c1_bottle", "depthwise"))
        assert [tuple(spec) for spec in specs] == [() if whole else (None, None, None, "fsdp")], leaf


def test_a_decoder_that_reads_what_the_backbone_has_not(monkeypatch):
    plain_parts.register(monkeypatch)
    entry = dataclasses.replace(DECODERS["plain"], reads=lambda output_stride: (2,))
    monkeypatch.setitem(DECODERS, "plain", entry)
    with pytest.raises(UserError, match=r"decoder\.name=plain: reads features at stride 2; .*=plain has those at 4, 8"):
        network.segmenter(with_decoder("plain", backbone="plain"), 3)


def test_a_layout_that_a_decoder_has_not():
    model = pretraining(**{"decoder.name": "deeplabv3plus", "decoder.layout": "torchvision"})
    with pytest.raises(UserError, match=r"config\.model\.decoder\.layout=torchvision: expected one of mmseg"):
        network.segmenter(model, 3)


def test_networks_without_batch_normalisation(monkeypatch):
    """No collection, or one without the parts that have none; training runs and changes no statistics."""
    plain_parts.register(monkeypatch)
    model = with_decoder("plain", backbone="plain")
    x = seeded.image("image", SIZE).astype(np.float32)
    for head, module, parts in (
        ("classifier", network.segmenter(model, 3), set()),
        ("projection", network.pixel_encoder(model), {"projection"}),
    ):
        variables = jax.jit(lambda m=module: m.init(jax.random.key(0), x, train=False))()
        assert set(variables.get("batch_stats", {})) == parts
        assert {len(specs) for specs in rules_of(variables["params"], model, head).values()} == {1}
        y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
        assert set(updated.get("batch_stats", {})) == parts
        assert y.shape[:3] == (2, 5, 5) and np.isfinite(y).all()
        variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
        assert module.apply(variables, x, train=False).shape == y.shape


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"backbone": "convnext_tiny", "decoder.name": "upernet"},
            r"upernet: reads features at stride 16; config\.model\.backbone=convnext_tiny has those at 4, 8; "
            r"expected config\.model\.output_stride=32, where it has them",
        ),
        (
            {"backbone": "vit_small_patch14_dinov2", "decoder.name": "deeplabv3plus", "output_stride": 14},
            r"reads features at stride 4; config\.model\.backbone=vit_small_patch14_dinov2 has those at 14; "
            r"expected another backbone, or one of the decoders deeplabv3, fcn, identity, linear$",
        ),
        (
            {"backbone": "vit_base_patch16"},
            r"config\.model\.output_stride=8: expected 16 or 32 with .*=vit_base_patch16",
        ),
        (
            {"backbone": "vit_small_patch16_dinov3", "output_stride": 16, "width": 1 / 64},
            r"width=0\.015625: gives 1 channels for an attention head; expected a width of 0\.0625 or a multiple of it",
        ),
    ],
)
def test_networks_that_cannot_be_made_say_what_can(values, message):
    with pytest.raises(UserError, match=message):
        network.segmenter(pretraining(**values), 3)


def test_labels_stand_where_a_feature_is_centred():
    """In the middle of a patch's cell, on the first pixel of a convolution's; a label stride that is given stays."""
    assert network.label_stride(pretraining(backbone="resnet18"), 0) == 0
    patches = pretraining(**{"backbone": "vit_small_patch16", "output_stride": 16, "decoder.name": "linear"})
    assert network.label_stride(patches, 0) == 16
    assert network.label_stride(patches, 4) == 4
    fine = pretraining(**{"backbone": "convnext_tiny", "output_stride": 32, "decoder.name": "upernet"})
    assert network.label_stride(fine, 0) == 4


@pytest.mark.parametrize("name", DECODERS)
def test_the_words_name_channels_only_where_the_decoder_writes_them(name):
    model, entry = typed_model(with_decoder(name, **{"decoder.channels": 24, "backbone": "resnet18"})), DECODERS[name]
    decoder = entry.make(model, Dtypes(jnp.dtype("float32"), jnp.dtype("float32")))
    strides = entry.reads(model.output_stride)
    read = {stride: jax.ShapeDtypeStruct((2, *size_at(stride), 12), jnp.float32) for stride in strides}
    written, _ = jax.eval_shape(lambda x: decoder.init_with_output(jax.random.key(0), x, train=False), read)
    assert written.shape[-1] == (24 if entry.own_channels else 12)
    words = network_in_words(model)
    assert ("24 channels" in words) == entry.own_channels
    assert words.startswith("resnet18 of 0.0625 times its width, ") and words.endswith(", float32")
