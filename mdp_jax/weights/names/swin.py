"""Names of Swin: timm's, which are ours, those of the authors' files, torchvision's, MMSegmentation's, Hugging Face's.

MMSegmentation joins four features in another order before it merges them. Its normalisations of the four outputs are
ours; the other libraries have that of the last one alone.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.models.backbones.swin import HEAD, SIZES, STRIDES, WINDOW
from mdp_jax.weights.names import OURS, Recognised
from mdp_jax.weights.names.foreign import Library, Ours, library_of, ours_of

ONLY_THEIRS = {
    "timm": ("head.fc.weight", "head.fc.bias"),
    "torchvision": ("head.weight", "head.bias"),
}

_CLASSIFIER = ("head.*", "classifier of whole images")
_FOLLOWS = (r".*relative_position_index|.*attn_mask", "follows from the architecture")
_LAST = (r"^norm\.", f"norm{len(STRIDES) - 1}.")
_BLOCK = r"layers.\1.blocks.\2."
# The merging in front of a stage stands at the end of the one before it.
_AT_THE_END = tuple((rf"^layers\.{i}\.downsample\.", f"merging.{i + 1}.") for i in range(3))
_AT_THE_END += ((r"^merging\.", "layers."), (r"^(layers\.\d)\.(norm|reduction)\.", r"\1.downsample.\2."))
# Stage i of torchvision is "features.{2 i + 1}", the merging in front of it "features.{2 i}".
_TORCHVISION = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    *((rf"^features\.{2 * i + 1}\.(\d+)\.", rf"layers.{i}.blocks.\1.") for i in range(4)),
    *((rf"^features\.{2 * i}\.", f"layers.{i}.downsample.") for i in range(1, 4)),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    _LAST,
)
_MMSEG = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^stages\.(\d)\.", r"layers.\1."),
    *_AT_THE_END,
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
_HUGGING_FACE = (
    (r"^swin\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.", ""),
    *_AT_THE_END,
    (r"\.attention\.(self\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(self\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(self\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(self|relative_position_bias)\.", ".attn."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", _LAST[1]),
)
_QKV = r"layers\.0\.blocks\.0\.attn\.qkv\.weight"
LIBRARIES = (
    Library("the authors", r"layers\.0\.downsample\.reduction\.weight", (*_AT_THE_END, _LAST), (_CLASSIFIER, _FOLLOWS)),
    Library("timm", _QKV, (_LAST,), (_CLASSIFIER, _FOLLOWS)),
    Library("torchvision", r"features\.1\.0\.attn\.qkv\.weight", _TORCHVISION, (_CLASSIFIER, _FOLLOWS)),
    Library("MMSegmentation", r"stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight", _MMSEG, (_CLASSIFIER, _FOLLOWS)),
    Library(
        "Hugging Face",
        r"(swin\.)?encoder\.layers\.0\.blocks\.0\.attention\.(self\.query|q_proj)\.weight",
        _HUGGING_FACE,
        ((r"classifier\..*", _CLASSIFIER[1]), _FOLLOWS),
    ),
)


def ours(state: Mapping[str, np.ndarray], where: str) -> Ours | None:
    """Brings a state dict to our names and orders.

    A normalisation of an output that the file lacks begins as a new one does.

    Args:
      state: their key -> array.
      where: the file, for messages.

    Returns:
      The state dict under our names; None where it is no Swin of a known library.

    Raises:
      UserError: it is the second version, which computes something else.
    """
    library = library_of(list(state), LIBRARIES)
    if library is None:
        return None
    if any(key.endswith("logit_scale") for key in state):
        raise UserError(f"{where}: the weights of Swin V2; expected those of Swin ({', '.join(SIZES)})")
    found = ours_of(state, library)
    leaves, notes = found.state, list(found.notes)
    if library.name == "MMSegmentation":
        for key in leaves:
            leaves[key] = _ordered(key, leaves[key], mmseg=False)
    missing = []
    for i in range(len(STRIDES)):
        merging = leaves.get(f"layers.{i + 1}.downsample.norm.weight", leaves.get("norm3.weight"))
        if f"norm{i}.weight" in leaves or merging is None or merging.ndim != 1:
            continue  # the check of shapes says it
        channels = len(merging) // 4 if i + 1 < len(STRIDES) else len(merging)
        leaves[f"norm{i}.weight"] = np.ones(channels, merging.dtype)
        leaves[f"norm{i}.bias"] = np.zeros(channels, merging.dtype)
        missing.append(f"norm{i}")
    if missing:
        notes.append(f"no normalisation of the features at some strides ({', '.join(missing)}): it begins as a new one")
    return Ours(leaves, found.skipped, tuple(notes))


def _ordered(key: str, array: np.ndarray, mmseg: bool) -> np.ndarray:
    """A leaf of a merging with its inputs in MMSegmentation's order or ours; other leaves stay.

    Four features of C channels are joined. MMSegmentation has, for each channel, those of the upper row before those of
    the lower one. We have, for each column, all channels of the upper feature before those of the lower one.
    """
    if ".downsample." not in key or not array.ndim or array.shape[-1] % 4:
        return array
    # [..., column, row, channel], or with MMSegmentation [..., channel, row, column]
    apart = array.reshape(*array.shape[:-1], *((2, 2, -1) if mmseg else (-1, 2, 2)))
    return np.ascontiguousarray(np.swapaxes(apart, -1, -3)).reshape(array.shape)


def modules(backbone: str, layout: str) -> dict[str, str]:
    """The names of a library's modules.

    Args:
      backbone: name in the registry.
      layout: of the library.

    Returns:
      {our module below the backbone: theirs}; {} where nothing is written in this layout. What a library has no place
      for is left out.
    """
    norms = [f"norm{i}" for i in range(len(STRIDES))]
    if layout == OURS:
        return {name: name for name in ("patch_embed", "layers", *norms)}
    if layout == "timm":
        return {"patch_embed": "patch_embed", "layers": "layers", norms[-1]: "norm"}
    if layout not in ("torchvision", "mmseg"):
        return {}
    theirs = _torchvision_modules if layout == "torchvision" else _mmseg_modules
    return theirs(SIZES[backbone].blocks)


def _torchvision_modules(blocks: tuple[int, ...]) -> dict[str, str]:
    found = {"patch_embed.proj": "features.0.0", "patch_embed.norm": "features.0.2", "norm3": "norm"}
    for i, count in enumerate(blocks):
        if i:
            found[f"layers.{i}.downsample"] = f"features.{2 * i}"
        for j in range(count):
            ours_, theirs = f"layers.{i}.blocks.{j}", f"features.{2 * i + 1}.{j}"
            found |= {f"{ours_}.{name}": f"{theirs}.{name}" for name in ("norm1", "attn", "norm2")}
            found |= {f"{ours_}.mlp.fc1": f"{theirs}.mlp.0", f"{ours_}.mlp.fc2": f"{theirs}.mlp.3"}
    return found


def _mmseg_modules(blocks: tuple[int, ...]) -> dict[str, str]:
    found = {"patch_embed.proj": "patch_embed.projection", "patch_embed.norm": "patch_embed.norm"}
    for i, count in enumerate(blocks):
        found[f"norm{i}"] = f"norm{i}"
        if i:
            found[f"layers.{i}.downsample"] = f"stages.{i - 1}.downsample"
        for j in range(count):
            ours_, theirs = f"layers.{i}.blocks.{j}", f"stages.{i}.blocks.{j}"
            found |= {f"{ours_}.{name}": f"{theirs}.{name}" for name in ("norm1", "norm2")}
            found[f"{ours_}.attn"] = f"{theirs}.attn.w_msa"
            found |= {f"{ours_}.mlp.fc1": f"{theirs}.ffn.layers.0.0", f"{ours_}.mlp.fc2": f"{theirs}.ffn.layers.1"}
    return found


def finished(state: Mapping[str, np.ndarray], layout: str) -> dict[str, np.ndarray]:
    """A state dict under a library's names as its model loads it: with its orders and its indices of positions.

    Args:
      state: their key -> array, in our orders; of the backbone, or of a whole network.
      layout: of the library.
    """
    if layout == "timm":
        return dict(state)
    found = {key: _ordered(key, array, mmseg=True) if layout == "mmseg" else array for key, array in state.items()}
    index = _index() if layout == "mmseg" else _index().reshape(-1)
    for key in state:
        if key.endswith(".relative_position_bias_table"):
            found[key.replace("_bias_table", "_index")] = index
    return found


def _index() -> np.ndarray:
    """Rows of the table of biases for each pair of positions in a window, int64 [WINDOW**2,WINDOW**2]."""
    row, column = (axis.reshape(-1) for axis in np.indices((WINDOW, WINDOW)))
    below, right = (axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (row, column))
    return below * (2 * WINDOW - 1) + right


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
    """Finds the Swin that has some shapes, by its blocks and the heads of its first stage.

    Args:
      shapes: {our key below the backbone: shape}.
      where: the file, for messages.

    Raises:
      UserError: there is none.
    """
    places, heads = (*shapes.get("layers.0.blocks.0.attn.relative_position_bias_table", ()), 0, 0)[:2]
    if places != (2 * WINDOW - 1) ** 2:
        window = (math.isqrt(places) + 1) // 2
        raise UserError(f"{where}: windows of {window} x {window} patches; expected {WINDOW} x {WINDOW}")
    blocks = [{key.split(".")[3] for key in shapes if re.match(rf"layers\.{i}\.blocks\.", key)} for i in range(4)]
    counts = tuple(map(len, blocks))
    for name, sizes in SIZES.items():
        if sizes == (counts, heads):
            return Recognised(name, "patch_embed.proj.weight", heads * HEAD)
    expected = "; ".join(f"{name}: {_said(*sizes)}" for name, sizes in SIZES.items())
    raise UserError(f"{where}: {_said(counts, heads)}; expected one of {expected}")


def _said(blocks: tuple[int, ...], heads: int) -> str:
    return f"stages of {', '.join(map(str, blocks))} blocks, {heads} heads in the first"
