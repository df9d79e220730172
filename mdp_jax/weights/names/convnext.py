"""Names of ConvNeXt: timm's, which are ours, torchvision's, Hugging Face's, and those of the authors' files."""

from collections.abc import Mapping

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.models.backbones.convnext import SIZES
from mdp_jax.weights.names import OURS, Recognised
from mdp_jax.weights.names.foreign import Library, Ours, library_of, ours_of, size_along

ONLY_THEIRS = {"timm": ("head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias")}

_CLASSIFIER = "classifier of whole images"
_FEATURES = "normalisation of the features, which ConvNeXt has not here"  # of the authors' segmentation networks
_BLOCK = r"stages.\1.blocks.\2."
# Stage i of torchvision is "features.{2 i + 1}", the change of resolution in front of it "features.{2 i}".
_TORCHVISION = (
    (r"^features\.0\.(\d)\.", r"stem.\1."),
    *((rf"^features\.{2 * i + 1}\.(\d+)\.", rf"stages.{i}.blocks.\1.") for i in range(4)),
    *((rf"^features\.{2 * i}\.(\d)\.", rf"stages.{i}.downsample.\1.") for i in range(1, 4)),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
)
_HUGGING_FACE = (
    (r"^convnext\.", ""),
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.stages\.(\d)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"^encoder\.stages\.(\d)\.layers\.(\d+)\.", _BLOCK),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"\.layer_scale_parameter$", ".gamma"),
)
_AUTHORS = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", _BLOCK),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
)
LIBRARIES = (
    Library("timm", r"stages\.0\.blocks\.0\.conv_dw\.weight", (), ((r"head\..*|norm_pre\..*", _CLASSIFIER),)),
    Library("torchvision", r"features\.1\.0\.layer_scale", _TORCHVISION, ((r"classifier\..*", _CLASSIFIER),)),
    Library(
        "Hugging Face",
        r"(convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        _HUGGING_FACE,
        ((r"(convnext\.)?layernorm\..*|classifier\..*", _CLASSIFIER),),
    ),
    Library(
        "the authors",
        r"stages\.0\.0\.dwconv\.weight",
        _AUTHORS,
        ((r"norm\..*|head\..*", _CLASSIFIER), (r"norm\d\..*", _FEATURES)),
    ),
)


def ours(state: Mapping[str, np.ndarray], where: str) -> Ours | None:
    """Brings a state dict to our names.

    Args:
      state: their key -> array.
      where: the file, for messages.

    Returns:
      The state dict under our names; None where it is no ConvNeXt of a known library.

    Raises:
      UserError: it is the second version, which has another normalisation in its blocks.
    """
    library = library_of(list(state), LIBRARIES)
    if library is None:
        return None
    if any(".grn." in key for key in state):
        raise UserError(f"{where}: the weights of ConvNeXt V2; expected those of ConvNeXt ({', '.join(SIZES)})")
    found = ours_of(state, library)
    for key, array in found.state.items():
        if key.endswith(".gamma"):
            found.state[key] = array.reshape(-1)  # torchvision's have two more axes
    if _FEATURES in found.skipped.values():
        return found._replace(alone="it stands on normalised features (norm0 to norm3), which ConvNeXt has not here")
    return found


def modules(backbone: str, layout: str) -> dict[str, str]:
    """The names of a library's modules, which are ours.

    Args:
      backbone: name in the registry.
      layout: of the library.

    Returns:
      {our module below the backbone: theirs}; {} where nothing is written in this layout.
    """
    del backbone
    return {name: name for name in ("stem", "stages")} if layout in (OURS, "timm") else {}


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
    """Finds the ConvNeXt that has some shapes, by its blocks and, where two have as many, by its channels.

    Args:
      shapes: {our key below the backbone: shape}.
      where: the file, for messages.

    Raises:
      UserError: there is none.
    """
    blocks = [{key.split(".")[3] for key in shapes if key.startswith(f"stages.{i}.blocks.")} for i in range(4)]
    counts = tuple(map(len, blocks))
    found = [name for name, sizes in SIZES.items() if sizes.blocks == counts]
    if not found:
        expected = "; ".join(f"{name}: {', '.join(map(str, sizes.blocks))}" for name, sizes in SIZES.items())
        raise UserError(f"{where}: stages of {', '.join(map(str, counts))} blocks; expected one of {expected}")
    channels = size_along(shapes, "stem.0.weight", 0)
    name = next((name for name in found if SIZES[name].channels == channels), found[0])
    return Recognised(name, "stem.0.weight", SIZES[name].channels)
