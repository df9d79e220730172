import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.commands import convert
from mdp_jax.models import network
from mdp_jax.models.backbones.resnet import ResNet
from mdp_jax.models.layers import Dtypes
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.init import load_init
from mdp_jax.weights.torch_weights import to_torch
from tests.models import seeded
from tests.weights import published
from tests.weights import seeded_weights as weights

FLOAT32 = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))
# Where the names of both sides stand in the network, from torchvision's code: a module of each kind.
BY_HAND = {
    "backbone.layer4.2.conv3.weight": "backbone.layer4.2.conv3.weight",
    "decoder.aspp_0.conv.weight": "classifier.0.convs.0.0.weight",
    "decoder.aspp_0.bn.running_mean": "classifier.0.convs.0.1.running_mean",
    "decoder.aspp_3.conv.weight": "classifier.0.convs.3.0.weight",
    "decoder.image_pool.conv.weight": "classifier.0.convs.4.1.weight",
    "decoder.image_pool.bn.bias": "classifier.0.convs.4.2.bias",
    "decoder.project.conv.weight": "classifier.0.project.0.weight",
    "decoder.project.bn.running_var": "classifier.0.project.1.running_var",
    "decoder.bottleneck.conv.weight": "classifier.1.weight",
    "decoder.bottleneck.bn.weight": "classifier.2.weight",
    "classifier.conv.bias": "classifier.4.bias",
    "auxiliary.convs_0.conv.weight": "aux_classifier.0.weight",
    "auxiliary.convs_0.bn.running_var": "aux_classifier.1.running_var",
    "auxiliary.classifier.conv.weight": "aux_classifier.4.weight",
}


def empty(shapes: dict) -> dict:
    """A state dict of these shapes that takes no memory."""
    types = {True: np.int64, False: np.float32}
    return {key: np.broadcast_to(types[key.endswith("tracked")](0), shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", published.TORCHVISION)
def test_every_leaf_of_the_published_models_has_its_place(name):
    keys = published.keys(f"torchvision/{name}")
    found = layouts.find(empty(keys), name)
    model = architecture.model_of(found)
    layouts.require_same(found, found.parts(), architecture.expected_shapes(found, model, found.parts()), name)
    assert model.backbone == name.removeprefix("deeplabv3_")
    assert found.layout == ("torchvision" if "deeplab" in name else layouts.ALONE)
    assert len(found.keys) + len(found.skipped) == len(keys)
    reasons = {leaf.key: leaf.note for leaf in found.skipped if not leaf.key.endswith("tracked")}
    assert set(reasons) == {key for key in keys if key.startswith("fc.")}


@pytest.mark.parametrize("name", published.TORCHVISION)
def test_what_is_written_has_exactly_the_published_names_and_shapes(name):
    keys = published.keys(f"torchvision/{name}")
    found = layouts.find(empty(keys), name)
    source = convert.Weights(architecture.model_of(found), found.of_parts(convert.PARTS), found.keys, (), ())
    state, leaves = convert.to_layout(source, "torchvision")
    expected = {key: shape for key, shape in keys.items() if not key.startswith("fc.")}
    assert {key: array.shape for key, array in state.items()} == expected
    assert [leaf.key for leaf in leaves if leaf.status == "missing"] == [key for key in keys if key.startswith("fc.")]


def test_names_by_hand():
    found = layouts.find(empty(published.keys("torchvision/deeplabv3_resnet50")), "file")
    assert {ours: found.keys[ours] for ours in BY_HAND} == BY_HAND


def test_a_published_resnet_becomes_the_tree_that_equals_it(tmp_path):
    """By way of a file; tests/models/test_resnet.py sees torchvision's outputs with weights so named and seeded."""
    state = published.seeded_state(published.keys("torchvision/resnet18"))
    path = weights.write_file(tmp_path / "resnet18.safetensors", state)
    model = ResNet("resnet18", 64, 8, FLOAT32)
    expected = weights.variables_of(model)
    blank = jax.tree.map(jnp.zeros_like, expected)
    params, batch_stats, _ = load_init(
        path, {"backbone": blank["params"]}, {"backbone": blank["batch_stats"]}, ("backbone",)
    )
    weights.assert_same_tree(params["backbone"], expected["params"])
    weights.assert_same_tree(batch_stats["backbone"], expected["batch_stats"])


@pytest.fixture(scope="module")
def torchvision():
    pytest.importorskip("torch")
    return pytest.importorskip("torchvision")


def test_torchvisions_own_deeplab_loads_ours_and_gives_our_logits(torchvision, tmp_path):
    import torch

    config = base.finetune().model
    config.decoder.layout, config.decoder.channels, config.backbone = "torchvision", 256, "resnet50"
    model = network.segmenter(config, 21)
    variables = weights.variables_of(model)
    state = to_torch(variables["params"]) | to_torch(variables["batch_stats"])
    source = convert.Weights(config, state, {key: key for key in state}, (), ())
    files.write(tmp_path / "ours.pth", convert.to_layout(source, "torchvision")[0])

    theirs = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21)
    theirs.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    image = seeded.image("image", (1, 65, 80, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(image).permute(0, 3, 1, 2))["out"].permute(0, 2, 3, 1).numpy()
    logits = seeded.quick_jit(lambda v, x: network.upsample(model.apply(v, x, train=False), x.shape[1:3]))(
        variables, image
    )
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_torchvisions_own_resnet_loads_our_backbone(torchvision, tmp_path):
    import torch

    run, variables = weights.pretrained(tmp_path / "run", model__width=1.0, model__decoder__channels=4)
    source = convert.backbone_of(convert.from_workdir(run))
    files.write(tmp_path / "ours.pth", convert.to_layout(source, "torchvision")[0])
    theirs = torchvision.models.resnet18(weights=None)
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    kernel = variables["params"]["backbone"]["layer4"]["1"]["conv2"]["kernel"]
    np.testing.assert_array_equal(theirs.layer4[1].conv2.weight.detach().permute(2, 3, 1, 0), kernel)
