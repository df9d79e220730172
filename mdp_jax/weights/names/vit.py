"""Names of plain vision transformers: timm's, which are ours, torchvision's, Hugging Face's, and those of DINO."""

import math
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.models.backbones.vit import FORMS, HEAD, KINDS, SIZES, Form, resized_positions
from mdp_jax.weights.names import OURS, Recognised
from mdp_jax.weights.names.foreign import Library, Ours, library_of, ours_of, size_along

ONLY_THEIRS = {"timm": ("head.weight", "head.bias")}

_CLASSIFIER = "classifier of whole images"
_MASK = "token of masked patches, of the training that wrote the file"
_TIMM = (
    (r"\.gamma_(\d)$", r".ls\1.gamma"),
    (r"\.attn\.([qv])_bias$", r".attn.\1.bias"),
    (r"^(register|storage)_tokens$", "reg_token"),
)
_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
)
_HUGGING_FACE = (
    (r"^(dinov2|dinov2_with_registers|dinov3_vit|vit)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^(encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\2."),  # layers: ViTModel of transformers 5 in memory
    (r"\.attention\.(attention\.)?(query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.)?(key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.)?(value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^(layernorm|norm)\.", "norm."),
)
LIBRARIES = (
    Library(
        "timm or the authors",
        r"blocks\.0\.attn\.qkv\.weight",
        _TIMM,
        (
            (r"head\..*|fc_norm\..*|head_drop\..*", _CLASSIFIER),
            (r"mask_token", _MASK),
            (r"rope_embed\.periods|.*\.attn\.k_bias|.*\.bias_mask", "follows from the architecture"),
        ),
    ),
    Library("torchvision", r"conv_proj\.weight", _TORCHVISION, ((r"heads\..*", _CLASSIFIER),)),
    Library(
        "Hugging Face",
        r"(.*\.)?embeddings\.patch_embeddings\.projection\.weight|(.*\.)?layer\.0\.attention\.q_proj\.weight",
        _HUGGING_FACE,
        ((r"(.*\.)?embeddings\.mask_token", _MASK), (r"classifier\..*|(vit\.)?pooler\..*", _CLASSIFIER)),
    ),
)


def ours(state: Mapping[str, np.ndarray], where: str) -> Ours | None:
    """Brings a state dict to our names and shapes.

    A missing bias of queries, keys and values becomes 0, a missing position of the class token too. Learned positions
    of another grid are interpolated.

    Args:
      state: their key -> array.
      where: the file, for messages.

    Returns:
      The state dict under our names; None where it is no vision transformer of a known library.

    Raises:
      UserError: it has a token of distillation, or a part that a plain transformer has not.
    """
    library = library_of(list(state), LIBRARIES)
    if library is None:
        return None
    for key, what in (("dist_token", "a token of distillation"), ("norm_pre.weight", "a normalisation of the patches")):
        if key in state or f"embeddings.{key.replace('dist', 'distillation')}" in state:
            raise UserError(
                f"{where}: has {what} ({key}), which the networks here have not; expected weights of one without it, "
                f"as {next(iter(KINDS))}"
            )
    found = ours_of(state, library)
    notes = list(found.notes)
    leaves = found.state
    for key in found.skipped:
        bias = leaves.get(key.removesuffix("_mask")) if key.endswith(".bias_mask") else None
        if bias is not None and bias.size % 3 == 0:
            bias = bias.copy().reshape(3, -1)
            bias[1] = 0  # of the authors' DINOv3, whose keys have no bias, whatever stands in its place
            leaves[key.removesuffix("_mask")] = bias.reshape(-1)
    for key in [key for key in leaves if key.endswith(".attn.qkv.weight")]:
        leaves.setdefault(key.removesuffix("weight") + "bias", np.zeros(leaves[key].shape[:1], leaves[key].dtype))
    form = _form({key: array.shape for key, array in leaves.items()})
    if form and form.grid and "pos_embed" in leaves:
        leaves["pos_embed"], said = _positions(leaves["pos_embed"], form)
        notes += said
    return Ours(leaves, found.skipped, (*notes, *_narrow({key: array.shape for key, array in leaves.items()})))


def _narrow(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What a network of no published width is read as: its heads leave no trace, and the features depend on them."""
    channels = size_along(shapes, "patch_embed.proj.weight", 0)
    sizes = _sizes(shapes)
    if not sizes or channels in [SIZES[size].heads * HEAD for size in sizes]:
        return []
    return [
        f"{channels} channels: read as a narrow network of {SIZES[sizes[0]].heads} heads; weights that were trained "
        "with another number of heads compute something else here (vit_tiny of timm and DeiT has 3)"
    ]


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The sizes that have as many blocks as a network with some shapes."""
    return [name for name, size in SIZES.items() if size.blocks == _blocks(shapes)]


def _blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return len({key.split(".")[1] for key in shapes if re.match(r"blocks\.\d+\.", key)})


def _positions(positions: np.ndarray, form: Form) -> tuple[np.ndarray, list[str]]:
    """[1,n,C] or [1,1+n,C] to [1,1+grid*grid,C], and what was done to them."""
    if positions.ndim != 3:
        return positions, []  # the check of shapes says it
    count, channels = positions.shape[1:]
    if math.isqrt(count) ** 2 == count:  # timm adds the class's position to the token itself
        positions = np.concatenate([np.zeros((1, 1, channels), positions.dtype), positions], axis=1)
    side = math.isqrt(positions.shape[1] - 1)
    if side == form.grid or side * side != positions.shape[1] - 1:
        return positions, []
    grid = np.asarray(resized_positions(jnp.asarray(positions[:, 1:]), (form.grid, form.grid)))
    grid = grid.reshape(1, -1, channels).astype(positions.dtype)
    said = f"positions of {side}x{side} patches, interpolated to {form.grid}x{form.grid}"
    return np.concatenate([positions[:, :1], grid], axis=1), [said]


def _form(shapes: Mapping[str, tuple[int, ...]]) -> Form | None:
    """The form that some shapes have."""
    wanted = (
        size_along(shapes, "patch_embed.proj.weight", -1),
        "pos_embed" in shapes,
        size_along(shapes, "reg_token", 1),
        "blocks.0.ls1.gamma" in shapes,
    )
    for form in FORMS.values():
        if (form.patch, form.grid > 0, form.registers, form.layer_scale > 0) == wanted:
            return form
    return None


def modules(backbone: str, layout: str) -> dict[str, str]:
    """The names of a library's modules, which are ours.

    timm has other leaves where there are registers: positions without the class token's, or none.

    Args:
      backbone: name in the registry.
      layout: of the library.

    Returns:
      {our module or leaf below the backbone: theirs}; {} where nothing is written in this layout.
    """
    _, form = KINDS[backbone]
    if layout != OURS and (layout != "timm" or form.registers):
        return {}
    leaves = ("cls_token", *(("pos_embed",) if form.grid else ()), *(("reg_token",) if form.registers else ()))
    return {name: name for name in (*leaves, "patch_embed", "blocks", "norm")}


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
    """Finds the vision transformer that has some shapes.

    The number of heads leaves no trace in them. Two sizes have the same depth; a narrow network is read as the smaller.

    Args:
      shapes: {our key below the backbone: shape}.
      where: the file, for messages.

    Raises:
      UserError: there is none.
    """
    patch = size_along(shapes, "patch_embed.proj.weight", -1)
    patches = sorted({form.patch for form in FORMS.values()})
    if patch not in patches:
        raise UserError(f"{where}: patches of {patch} x {patch} pixels; expected {' or '.join(map(str, patches))}")
    sizes = _sizes(shapes)
    if not sizes:
        depth = _blocks(shapes)
        expected = " or ".join(str(blocks) for blocks in dict.fromkeys(size.blocks for size in SIZES.values()))
        raise UserError(f"{where}: {depth} blocks; expected {expected}")
    form = _form(shapes)
    if form is None:
        registers, scale = size_along(shapes, "reg_token", 1), "blocks.0.ls1.gamma" in shapes
        raise UserError(
            f"{where}: patches of {patch} pixels, {registers} registers, {'with' if scale else 'without'} factors of "
            f"the residual branches, {'with' if 'pos_embed' in shapes else 'without'} learned positions; expected "
            f"those of a vit with {', '.join(FORMS)}"
        )
    channels = shapes["patch_embed.proj.weight"][0]
    size = next((name for name in sizes if SIZES[name].heads * HEAD == channels), sizes[0])
    name = next(name for name, kind in KINDS.items() if kind == (SIZES[size], form))
    return Recognised(name, "patch_embed.proj.weight", SIZES[size].heads * HEAD)
