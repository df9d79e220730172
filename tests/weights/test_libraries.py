"""Files of ConvNeXt, Swin and vision transformers with the names of timm, torchvision, Hugging Face and the authors."""

import re

import numpy as np
import pytest

from mdp_jax.commands import convert
from mdp_jax.errors import UserError
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.init import load_init
from mdp_jax.weights.names import swin
from mdp_jax.weights.torch_weights import from_torch
from tests.weights import published
from tests.weights.test_torchvision import empty

# Where a leaf of each kind stands in the other library's network, from its code.
BY_HAND = {
    "torchvision/convnext_tiny": {
        "stem.1.bias": "features.0.1.bias",
        "stages.0.blocks.2.conv_dw.weight": "features.1.2.block.0.weight",
        "stages.2.blocks.8.norm.weight": "features.5.8.block.2.weight",
        "stages.3.blocks.0.mlp.fc1.weight": "features.7.0.block.3.weight",
        "stages.3.blocks.0.mlp.fc2.bias": "features.7.0.block.5.bias",
        "stages.1.downsample.0.weight": "features.2.0.weight",
        "stages.3.downsample.1.weight": "features.6.1.weight",
        "stages.1.blocks.1.gamma": "features.3.1.layer_scale",
    },
    "torchvision/vit_b_16": {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj.weight": "conv_proj.weight",
        "blocks.11.attn.qkv.bias": "encoder.layers.encoder_layer_11.self_attention.in_proj_bias",
        "blocks.0.mlp.fc2.weight": "encoder.layers.encoder_layer_0.mlp.3.weight",
        "norm.weight": "encoder.ln.weight",
    },
    "timm/swin_tiny_patch4_window7_224": {
        "layers.1.downsample.reduction.weight": "layers.1.downsample.reduction.weight",
        "norm3.bias": "norm.bias",
    },
    "torchvision/swin_t": {
        "patch_embed.norm.weight": "features.0.2.weight",
        "layers.1.downsample.norm.bias": "features.2.norm.bias",
        "layers.2.blocks.5.attn.relative_position_bias_table": "features.5.5.attn.relative_position_bias_table",
        "layers.3.blocks.0.mlp.fc2.weight": "features.7.0.mlp.3.weight",
        "norm3.weight": "norm.weight",
    },
    "mmseg/upernet_swin_tiny": {
        "backbone.patch_embed.proj.bias": "backbone.patch_embed.projection.bias",
        "backbone.layers.1.downsample.reduction.weight": "backbone.stages.0.downsample.reduction.weight",
        "backbone.layers.2.blocks.1.attn.qkv.bias": "backbone.stages.2.blocks.1.attn.w_msa.qkv.bias",
        "backbone.layers.3.blocks.1.mlp.fc1.weight": "backbone.stages.3.blocks.1.ffn.layers.0.0.weight",
        "backbone.layers.0.blocks.0.mlp.fc2.weight": "backbone.stages.0.blocks.0.ffn.layers.1.weight",
        "backbone.norm0.bias": "backbone.norm0.bias",
    },
    "huggingface/swin_tiny": {
        "layers.3.downsample.norm.weight": "swin.encoder.layers.2.downsample.norm.weight",
        "layers.0.blocks.1.attn.proj.bias": "swin.encoder.layers.0.blocks.1.attention.output.dense.bias",
        "layers.2.blocks.0.mlp.fc2.weight": "swin.encoder.layers.2.blocks.0.output.dense.weight",
        "norm3.weight": "swin.layernorm.weight",
    },
    "huggingface/convnext_tiny": {
        "stem.1.weight": "convnext.embeddings.layernorm.weight",
        "stages.2.blocks.3.gamma": "convnext.encoder.stages.2.layers.3.layer_scale_parameter",
        "stages.1.downsample.1.bias": "convnext.encoder.stages.1.downsampling_layer.1.bias",
    },
    "huggingface/dinov2_small": {
        "pos_embed": "embeddings.position_embeddings",
        "blocks.3.ls2.gamma": "encoder.layer.3.layer_scale2.lambda1",
        "blocks.0.attn.proj.weight": "encoder.layer.0.attention.output.dense.weight",
        "norm.bias": "layernorm.bias",
    },
}
# File -> the backbone that it has, and the reasons for leaves that are left out.
KNOWN = {
    "timm/convnext_tiny": ("convnext_tiny", {"head"}),
    "timm/convnext_base": ("convnext_base", {"head"}),
    "timm/vit_small_patch16_224": ("vit_small_patch16", {"head"}),
    "timm/vit_large_patch16_384": ("vit_large_patch16", {"head"}),
    "timm/vit_base_patch14_dinov2": ("vit_base_patch14_dinov2", set()),
    "timm/vit_small_patch14_reg4_dinov2": ("vit_small_patch14_reg4_dinov2", set()),
    "timm/vit_small_patch16_dinov3": ("vit_small_patch16_dinov3", set()),
    "timm/vit_base_patch16_dinov3_qkvb": ("vit_base_patch16_dinov3", set()),
    "timm/swin_tiny_patch4_window7_224": ("swin_tiny", {"head"}),
    "timm/swin_base_patch4_window7_224": ("swin_base", {"head"}),
    "torchvision/swin_t": ("swin_tiny", {"head", "features"}),
    "torchvision/swin_s": ("swin_small", {"head", "features"}),
    "huggingface/swin_tiny": ("swin_tiny", {"classifier"}),
    "torchvision/convnext_tiny": ("convnext_tiny", {"classifier"}),
    "torchvision/vit_b_16": ("vit_base_patch16", {"heads"}),
    "huggingface/convnext_tiny": ("convnext_tiny", {"convnext", "classifier"}),
    "huggingface/dinov2_small": ("vit_small_patch14_dinov2", {"embeddings"}),
    "huggingface/dinov3_small": ("vit_small_patch16_dinov3", {"embeddings"}),
}
# What cannot be used, and the line that says why.
REFUSED = {
    "timm/vit_base_patch8_224": r"x: patches of 8 x 8 pixels; expected 14 or 16",
    "timm/deit_small_distilled_patch16_224": r"x: has a token of distillation \(dist_token\), .* as vit_small_patch16",
    "timm/convnextv2_nano": r"x: the weights of ConvNeXt V2; expected those of ConvNeXt \(convnext_tiny, ",
    "timm/swin_base_patch4_window12_384": r"x: windows of 12 x 12 patches; expected 7 x 7",
    "timm/swinv2_tiny_window8_256": r"x: the weights of Swin V2; expected those of Swin \(swin_tiny, ",
    "torchvision/vit_b_32": r"x: patches of 32 x 32 pixels; expected 14 or 16",
}


def found_of(name):
    found = layouts.find(empty(published.keys(name)), "x")
    return found, architecture.model_of(found)


@pytest.mark.parametrize("name", KNOWN)
def test_every_leaf_of_a_published_file_has_its_place(name):
    backbone, left_out = KNOWN[name]
    found, model = found_of(name)
    assert (model.backbone, model.width) == (backbone, 1.0)
    layouts.require_same(found, found.parts(), architecture.expected_shapes(found, model, found.parts()), name)
    assert {leaf.key.split(".")[0] for leaf in found.skipped} == left_out


@pytest.mark.parametrize("name", BY_HAND)
def test_names_by_hand(name):
    """Each leaf holds its own number: the number of its key."""
    keys = published.keys(name)
    numbers = {key: np.full(shape, i, np.float32) for i, (key, shape) in enumerate(keys.items())}
    state = layouts.find(numbers, "x").state
    assert {ours: list(keys)[int(state[ours].flat[0])] for ours in BY_HAND[name]} == BY_HAND[name]


@pytest.mark.parametrize("name", REFUSED)
def test_files_of_other_networks_are_refused(name):
    with pytest.raises(UserError, match=REFUSED[name]):
        found_of(name)


def test_queries_keys_and_values_are_joined_in_this_order():
    state = empty(published.keys("huggingface/dinov2_small"))
    before = "encoder.layer.5.attention.attention"
    for number, name in enumerate(("query", "key", "value"), start=1):
        state[f"{before}.{name}.weight"] = np.full((384, 384), number, np.float32)
    joined = layouts.find(state, "x").state["blocks.5.attn.qkv.weight"]
    np.testing.assert_array_equal(joined[:, 0], np.repeat([1, 2, 3], 384))


def test_a_state_dict_of_transformers_5_in_memory():
    """Its ViTModel has other names there than in the files that it saves."""
    saved, renamed = published.keys("huggingface/dinov2_small"), {}
    for key, shape in saved.items():
        key = key.replace("encoder.layer.", "layers.").replace("attention.output.dense", "attention.o_proj")
        renamed[re.sub(r"attention\.attention\.([qkv])[a-z]+", r"attention.\1_proj", key)] = shape
    assert "layers.11.attention.q_proj.weight" in renamed
    found, expected = (layouts.find(empty(keys), "x").state for keys in (renamed, saved))
    assert {key: array.shape for key, array in found.items()} == {key: array.shape for key, array in expected.items()}


def test_the_heads_of_a_narrow_vit_are_said():
    """timm's vit_tiny has the shapes of a vit_small of half the width, and 3 heads where that has 6."""
    wide = published.keys("timm/vit_small_patch16_224")
    tiny = {key: tuple(size // 2 if size % 384 == 0 else size for size in shape) for key, shape in wide.items()}
    assert layouts.find(empty(wide), "x").notes == ()
    (note,) = layouts.find(empty(tiny), "x").notes
    assert note.startswith("192 channels: read as a narrow network of 6 heads; ")


def test_missing_biases_are_0_and_those_of_keys_too():
    """timm's DINOv3 without biases; with those of queries and values; the authors' with a mask over those of keys."""
    state = empty(published.keys("timm/vit_small_patch16_dinov3"))
    np.testing.assert_array_equal(layouts.find(state, "x").state["blocks.0.attn.qkv.bias"], np.zeros(1152))
    state |= {"blocks.0.attn.q_bias": np.ones(384, np.float32), "blocks.0.attn.v_bias": np.full(384, 2, np.float32)}
    expected = np.repeat([1, 0, 2], 384)
    np.testing.assert_array_equal(layouts.find(state, "x").state["blocks.0.attn.qkv.bias"], expected)
    for name in "qv":
        del state[f"blocks.0.attn.{name}_bias"]
    state["blocks.0.attn.qkv.bias"] = np.repeat(np.float32([1, 9, 2]), 384)
    state["blocks.0.attn.qkv.bias_mask"] = np.full(1152, np.nan, np.float32)
    np.testing.assert_array_equal(layouts.find(state, "x").state["blocks.0.attn.qkv.bias"], expected)


def test_positions_of_another_grid_are_interpolated_and_a_line_says_so():
    state = empty(published.keys("timm/vit_large_patch16_384"))
    state["pos_embed"] = np.full((1, 577, 1024), 3, np.float32)
    state["pos_embed"][:, 0] = 7
    found = layouts.find(state, "x")
    assert found.notes == ("positions of 24x24 patches, interpolated to 14x14",)
    np.testing.assert_allclose(found.state["pos_embed"][0, :, 0], [7, *[3] * 196], rtol=1e-6)


def test_a_class_token_without_a_position_gets_the_position_0():
    state = empty(published.keys("timm/vit_small_patch14_reg4_dinov2"))
    state["pos_embed"] = np.ones((1, 1369, 384), np.float32)
    np.testing.assert_array_equal(layouts.find(state, "x").state["pos_embed"][0, :, 0], [0, *[1] * 1369])


def test_features_without_a_normalisation_begin_with_a_new_one():
    found = layouts.find(empty(published.keys("torchvision/swin_t")), "x")
    for i, channels in enumerate((96, 192, 384)):
        np.testing.assert_array_equal(found.state[f"norm{i}.weight"], np.ones(channels))
        np.testing.assert_array_equal(found.state[f"norm{i}.bias"], np.zeros(channels))
    assert any("(norm0, norm1, norm2): it begins as a new one" in note for note in found.notes)


def test_the_authors_files_of_swin_have_the_merging_at_the_end_of_a_stage():
    """Their names are timm's but for this; that of the segmentation has all four normalisations."""
    ours = published.keys("timm/swin_tiny_patch4_window7_224")
    theirs = {}
    for key, shape in ours.items():
        number = key.split(".")[1]
        theirs[
            key.replace(f"layers.{number}.downsample", f"layers.{int(number) - 1}.downsample") if "down" in key else key
        ] = shape
    theirs = {key.replace("head.fc", "head"): shape for key, shape in theirs.items() if not key.startswith("norm.")}
    theirs |= {f"norm{i}.{leaf}": (96 * 2**i,) for i in range(4) for leaf in ("weight", "bias")}
    theirs["layers.0.blocks.1.attn_mask"] = (64, 49, 49)
    found = layouts.find(empty(theirs), "x")
    model = architecture.model_of(found)
    assert model.backbone == "swin_tiny"
    layouts.require_same(found, ["backbone"], architecture.expected_shapes(found, model, ["backbone"]), "x")
    assert not any("normalisation" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("timm/vit_small_patch16_224", "patch_embed.proj.weight", ()),
        ("timm/vit_small_patch16_224", "blocks.0.attn.qkv.weight", ()),
        ("timm/vit_small_patch14_reg4_dinov2", "reg_token", (384,)),
        ("huggingface/dinov3_small", "layer.0.attention.k_proj.weight", (384,)),
        ("huggingface/dinov3_small", "layer.0.attention.v_proj.bias", ()),
        ("mmseg/swin_tiny", "stages.0.downsample.norm.bias", ()),
        ("timm/convnext_base", "stem.0.weight", ()),
    ],
)
def test_a_leaf_with_other_axes_is_another_architecture(name, key, shape):
    with pytest.raises(UserError, match=r"^x: .*expected|^x: another architecture"):
        found = layouts.find(empty(published.keys(name) | {key: shape}), "x")
        model = architecture.model_of(found)
        layouts.require_same(found, found.parts(), architecture.expected_shapes(found, model, found.parts()), name)


def test_a_decoder_on_normalised_features_is_not_taken():
    """The authors' segmentation networks normalise the features of ConvNeXt for their UPerNet."""
    body = {key: shape for key, shape in published.keys("timm/convnext_tiny").items() if not key.startswith("head.")}
    theirs = {}
    for key, shape in body.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key).replace(".blocks.", ".")
        key = re.sub(r"\.mlp\.fc(\d)\.", r".pwconv\1.", key.replace(".conv_dw.", ".dwconv."))
        theirs[f"backbone.{key}"] = shape
    heads = ("decode_head.", "auxiliary_head.")
    upernet = {key: shape for key, shape in published.keys("mmseg/upernet_r50").items() if key.startswith(heads)}
    norms = {f"backbone.norm{i}.{leaf}": (96 * 2**i,) for i in range(4) for leaf in ("weight", "bias")}
    plain = layouts.find(empty(theirs), "x")
    assert (plain.parts(), plain.notes) == (["backbone"], ("names of the authors, read as timm's",))

    found = layouts.find(empty(theirs | upernet | norms), "x")
    model = architecture.model_of(found)
    assert (found.parts(), found.decoder, model.backbone) == (["backbone"], "", "convnext_tiny")
    layouts.require_same(found, found.parts(), architecture.expected_shapes(found, model, found.parts()), "x")
    assert "the decoder is not: it stands on normalised features" in found.notes[-1]
    assert {leaf.key for leaf in found.skipped} == {*upernet, *norms}
    reasons = {leaf.note for leaf in found.skipped if leaf.key in norms}
    assert reasons == {"normalisation of the features, which ConvNeXt has not here"}


def test_mmsegmentation_merges_features_in_another_order():
    """2x2 features of 2 channels as torch's unfold lays them out; both give the same sum, and it comes back."""
    pixels = np.arange(8.0).reshape(2, 2, 2)  # row, column, channel
    unfolded = np.array([pixels[row, column, c] for c in range(2) for row in range(2) for column in range(2)])
    joined = np.concatenate([pixels[0, 0], pixels[1, 0], pixels[0, 1], pixels[1, 1]])  # of timm's x0 to x3
    keys = published.keys("mmseg/swin_tiny")
    state = empty(keys)
    weights = np.random.default_rng(0).normal(size=(3, 8))
    state["stages.1.downsample.reduction.weight"], state["stages.1.downsample.norm.bias"] = weights, unfolded
    found = layouts.find(state, "x").state
    np.testing.assert_array_equal(found["layers.2.downsample.norm.bias"], joined)
    ours = found["layers.2.downsample.reduction.weight"]
    np.testing.assert_allclose(ours @ joined, weights @ unfolded)
    back = swin.finished({"stages.1.downsample.reduction.weight": ours}, "mmseg")
    np.testing.assert_array_equal(back["stages.1.downsample.reduction.weight"], weights)


@pytest.mark.parametrize("layout", ["torchvision", "mmseg"])
def test_indices_of_positions_are_written_as_the_library_has_them(layout):
    """Row 0 is for the query in the first corner: its own place is the middle of 13 x 13, the others lie before it."""
    key = "x.attn.relative_position_bias_table"
    index = swin.finished({key: np.zeros((169, 3))}, layout)["x.attn.relative_position_index"]
    assert index.dtype == np.int64 and index.shape == ((49, 49) if layout == "mmseg" else (2401,))
    index = index.reshape(49, 49)
    assert list(index[0, :8]) == [84, 83, 82, 81, 80, 79, 78, 84 - 13] and list(np.diag(index)) == [84] * 49
    assert index[48, 0] == 168 and index[0, 48] == 0


WRITTEN = (
    "timm/convnext_tiny",
    "timm/vit_small_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "torchvision/swin_t",
)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_has_the_librarys_names_and_shapes(name):
    found, model = found_of(name)
    source = convert.Weights(model, found.of_parts(convert.PARTS), found.keys, (), ())
    state, leaves = convert.to_layout(source, name.split("/")[0])
    expected = published.keys(name)
    heads = {key for key in expected if key.startswith("head.")}
    assert {key: array.shape for key, array in state.items()} == {k: s for k, s in expected.items() if k not in heads}
    assert {leaf.key for leaf in leaves if leaf.status == "missing"} == heads


def test_a_file_of_another_patch_names_what_it_holds(tmp_path):
    """A run with 16 pixels is given a file with 14."""
    keys = published.keys("timm/vit_small_patch14_reg4_dinov2")
    state = {key: np.zeros(shape, np.float32) for key, shape in keys.items()}
    files.write(tmp_path / "dinov2.safetensors", state)
    sixteen = layouts.find(empty(published.keys("timm/vit_small_patch16_224")), "x")
    params = from_torch(sixteen.of_parts(["backbone"]))[0]
    expected = (
        r"than config\.model \(the file fits config\.model\.backbone='vit_small_patch14_reg4_dinov2', "
        r"config\.model\.width=1\): patch_embed\.proj\.weight"
    )
    with pytest.raises(UserError, match=expected):
        load_init(tmp_path / "dinov2.safetensors", params, {}, ("backbone",))
