"""Names of ResNets: torchvision's, MMSegmentation's `ResNet` and `ResNetV1c`, and those of open-mmlab's files.

The modules are named here as there.
"""

from collections.abc import Mapping

from mdp_jax.errors import UserError
from mdp_jax.models.backbones.resnet import DEPTHS, V1C, Bottleneck
from mdp_jax.weights.names import Recognised

ONLY_THEIRS = {
    layout: ("fc.weight", "fc.bias") for layout in ("torchvision", "timm")
}  # MMSegmentation's ResNet is a backbone and nothing else

_LAYERS = ("layer1", "layer2", "layer3", "layer4")


def modules(backbone: str, layout: str) -> dict[str, str]:
    """The names of a library's modules, which are the same as ours; MMSegmentation alone has this deep stem.

    Args:
      backbone: name in the registry.
      layout: of the library.

    Returns:
      {our module below the backbone: theirs}; {} where the library does not have this backbone.
    """
    deep_stem = backbone.endswith(V1C)
    if deep_stem and layout != "mmseg":
        return {}
    return {name: name for name in ("stem", *_LAYERS)} if deep_stem else {n: n for n in ("conv1", "bn1", *_LAYERS)}


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
    """Finds the ResNet that has some shapes, by its blocks and its stem.

    Args:
      shapes: {our key below the backbone: shape}.
      where: the file, for messages.

    Raises:
      UserError: there is none.
    """
    block = "bottlenecks" if "layer1.0.conv3.weight" in shapes else "basic blocks"
    counts = tuple(len({key.split(".")[1] for key in shapes if key.startswith(f"{layer}.")}) for layer in _LAYERS)
    for name, (kind, blocks) in DEPTHS.items():
        if blocks == counts and (kind is Bottleneck) == (block == "bottlenecks"):
            deep_stem = any(key.startswith("stem.") for key in shapes)
            return Recognised(name + V1C, "stem.6.weight", 64) if deep_stem else Recognised(name, "conv1.weight", 64)
    raise UserError(f"{where}: layers of {', '.join(map(str, counts))} {block}; expected those of {', '.join(DEPTHS)}")
