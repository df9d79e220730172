import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax import schema
from mdp_jax.commands import convert
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.torch_weights import to_torch
from tests.models import seeded
from tests.weights import published
from tests.weights import seeded_weights as weights
from tests.weights.test_torchvision import empty

# Where the names of both sides stand in the network, from MMSegmentation's code: a module of each kind.
BY_HAND = {
    "backbone.layer2.0.downsample.1.bias": "backbone.layer2.0.downsample.1.bias",
    "decoder.image_pool.conv.weight": "decode_head.image_pool.1.conv.weight",
    "decoder.image_pool.bn.running_var": "decode_head.image_pool.1.bn.running_var",
    "decoder.aspp_0.conv.weight": "decode_head.aspp_modules.0.conv.weight",
    "decoder.aspp_3.bn.bias": "decode_head.aspp_modules.3.bn.bias",
    "decoder.bottleneck.conv.weight": "decode_head.bottleneck.conv.weight",
    "classifier.conv.weight": "decode_head.conv_seg.weight",
    "auxiliary.convs_0.conv.weight": "auxiliary_head.convs.0.conv.weight",
    "auxiliary.convs_0.bn.running_mean": "auxiliary_head.convs.0.bn.running_mean",
    "auxiliary.classifier.conv.bias": "auxiliary_head.conv_seg.bias",
}


PLUS_BY_HAND = {
    "backbone.stem.3.weight": "backbone.stem.3.weight",
    "decoder.image_pool.bn.running_mean": "decode_head.image_pool.1.bn.running_mean",
    "decoder.aspp_0.conv.weight": "decode_head.aspp_modules.0.conv.weight",
    "decoder.aspp_1.depthwise_conv.conv.weight": "decode_head.aspp_modules.1.depthwise_conv.conv.weight",
    "decoder.aspp_3.pointwise_conv.bn.bias": "decode_head.aspp_modules.3.pointwise_conv.bn.bias",
    "decoder.bottleneck.conv.weight": "decode_head.bottleneck.conv.weight",
    "decoder.c1_bottleneck.conv.weight": "decode_head.c1_bottleneck.conv.weight",
    "decoder.sep_bottleneck_1.pointwise_conv.bn.weight": "decode_head.sep_bottleneck.1.pointwise_conv.bn.weight",
    "classifier.conv.bias": "decode_head.conv_seg.bias",
}


@pytest.mark.parametrize("name", published.MMSEG)
def test_every_leaf_of_the_published_models_has_its_place_and_comes_back(name):
    keys = published.keys(f"mmseg/{name}")
    found = layouts.find(empty(keys), name)
    model = architecture.model_of(found)
    assert model.backbone == published.MMSEG_BACKBONE_OF.get(name, name)
    assert model.decoder.name == name.split("_")[0] or found.layout == layouts.ALONE
    layouts.require_same(found, found.parts(), architecture.expected_shapes(found, model, found.parts()), name)
    assert len(found.keys) + len(found.skipped) == len(keys)
    assert all(leaf.key.endswith(("tracked", "index")) for leaf in found.skipped)
    source = convert.Weights(model, found.of_parts(convert.PARTS), found.keys, (), ())
    state, leaves = convert.to_layout(source, "mmseg")
    assert {key: array.shape for key, array in state.items()} == keys
    assert {leaf.status for leaf in leaves} == {"loaded"}


def test_names_by_hand_of_deeplabv3plus():
    found = layouts.find(empty(published.keys("mmseg/deeplabv3plus_r50-d8")), "file")
    assert {ours: found.keys[ours] for ours in PLUS_BY_HAND} == PLUS_BY_HAND


def test_open_mmlabs_file_of_a_backbone_with_a_deep_stem():
    """`open-mmlab://resnet50_v1c`, from which the published segmentors began: a classifier of whole images with it."""
    keys = published.keys("mmseg/resnet50_v1c") | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    found = layouts.find(empty(keys), "file")
    assert architecture.model_of(found).backbone == "resnet50_v1c"
    assert {leaf.key for leaf in found.skipped if "fc" in leaf.key} == {"fc.weight", "fc.bias"}
    assert found.keys["backbone.stem.7.running_var"] == "stem.7.running_var"


def test_names_by_hand():
    found = layouts.find(empty(published.keys("mmseg/deeplabv3_r50-d8")), "file")
    assert {ours: found.keys[ours] for ours in BY_HAND} == BY_HAND


@pytest.mark.parametrize(
    ("wrapper", "more"),
    [
        ("module.", {}),
        ("module.", {"n_averaged": ()}),
        ("_orig_mod.", {}),
        ("module._orig_mod.", {}),
        ("model.", {}),
        ("", {"n_averaged": ()}),
    ],
)
def test_names_of_a_wrapped_network(wrapper, more):
    keys = published.keys("mmseg/deeplabv3_r50-d8")
    plain = layouts.find(empty(keys), "file")
    found = layouts.find(empty({f"{wrapper}{key}": shape for key, shape in keys.items()} | more), "file")
    assert {ours: found.keys[ours] for ours in BY_HAND} == BY_HAND
    assert found.keys == plain.keys and not found.strangers
    assert {leaf.key for leaf in found.skipped} == {leaf.key for leaf in plain.skipped} | set(more)


def test_a_counter_and_nothing_else():
    with pytest.raises(UserError, match=r"file: leaves like n_averaged; expected weights of a backbone"):
        layouts.find(empty({"n_averaged": ()}), "file")


def test_names_of_mmpretrain():
    keys = published.keys("mmseg/deeplabv3_r50-d8")
    backbone = {key: shape for key, shape in keys.items() if key.startswith("backbone.")}
    found = layouts.find(empty(backbone | {"head.fc.weight": (1000, 2048), "head.fc.bias": (1000,)}), "file")
    assert not found.strangers and list(found.parts()) == ["backbone"]
    assert {leaf.key for leaf in found.skipped if "fc" in leaf.key} == {"head.fc.weight", "head.fc.bias"}


def test_another_stem_is_another_architecture():
    """A stem of another kind in place of the first convolution."""
    keys = published.keys("mmseg/deeplabv3_r50-d8")
    body = {key: shape for key, shape in keys.items() if key != "backbone.conv1.weight"}
    with pytest.raises(UserError, match=r"file: another architecture: backbone.conv1.weight is missing"):
        architecture.model_of(layouts.find(empty(body | {"backbone.patch_embed.weight": (64, 3, 4, 4)}), "file"))


@pytest.fixture(scope="module")
def mmseg():
    pytest.importorskip("torch")
    pytest.importorskip("mmseg")


@pytest.mark.parametrize("name", published.MMSEG_SEGMENTORS)
def test_mmsegmentations_own_segmentor_loads_ours_and_gives_our_logits(mmseg, tmp_path, name):
    import torch
    from mmengine.runner import load_checkpoint

    config = base.finetune().model
    config.decoder.name, config.backbone = name.split("_")[0], published.MMSEG_BACKBONE_OF[name]
    config.output_stride = 8 if name.endswith("d8") else 32  # which no weight tells
    theirs = published.mmseg_model(name).eval()
    if theirs.with_auxiliary_head:
        config.auxiliary.weight = 0.4
    model = network.segmenter(schema.make(base.FinetuneModelConfig, config, "config.model."), 19)
    variables = weights.variables_of(model)
    state = to_torch(variables["params"]) | to_torch(variables["batch_stats"])
    source = convert.Weights(config, state, {key: key for key in state}, (), ())
    files.write(tmp_path / "ours.pth", convert.to_layout(source, "mmseg")[0], meta={})

    load_checkpoint(theirs, str(tmp_path / "ours.pth"), map_location="cpu", strict=True)
    # MMSegmentation's Swin shifts windows of which one fills the map, ours does not: here none does.
    size = (228, 236) if "swin" in name else (65, 80)
    image = seeded.image("image", (1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        features = theirs.extract_feat(torch.from_numpy(image).permute(0, 3, 1, 2))
        heads = [theirs.decode_head, theirs.auxiliary_head] if theirs.with_auxiliary_head else [theirs.decode_head]
        expected = [head(features).permute(0, 2, 3, 1).numpy() for head in heads]
    evaluated = seeded.quick_jit(lambda v, x: model.apply(v, x, train=False, mutable=[AUXILIARY]))
    logits, others = evaluated(variables, jnp.asarray(image))
    ours = [logits, others[AUXILIARY]["logits"]] if theirs.with_auxiliary_head else [logits]
    for own, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5 * np.abs(other).max())


def test_mmsegmentations_own_backbone_loads_ours_and_gives_our_features(mmseg, tmp_path):
    import torch
    from mmengine.runner import load_checkpoint

    run, variables = weights.pretrained(tmp_path / "run", model__width=1.0, model__decoder__channels=4)
    source = convert.backbone_of(convert.from_workdir(run))
    files.write(tmp_path / "ours.pth", convert.to_layout(source, "mmseg")[0], meta={})
    theirs = published.mmseg_model("resnet18")
    theirs.eval()  # which, of this class, returns nothing
    load_checkpoint(theirs, str(tmp_path / "ours.pth"), map_location="cpu", strict=True)
    image = seeded.image("image", (1, 33, 40, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image).permute(0, 3, 1, 2))[-1].permute(0, 2, 3, 1).numpy()
    config = base.finetune().model
    config.backbone = "resnet18"
    backbone = network.segmenter(config, 1).backbone
    ours = {name: tree["backbone"] for name, tree in variables.items()}
    features = seeded.quick_jit(lambda v, x: backbone.apply(v, x, train=False)[8])(ours, jnp.asarray(image))
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())
