"""Names of MMSegmentation's models: `ResNet` and the segmentor `deeplabv3_r50-d8` with the plain `ResNet`."""

from collections.abc import Iterable

HEAD = "decode_head"  # the module that only a whole segmentor has beside its backbone
SKIPPED = {
    "auxiliary_head": "auxiliary head; the method has none",
    "head": "classifier of whole images",  # MMPretrain's
}
ONLY_THEIRS = ()  # its ResNet is a backbone and nothing else


def modules(rates: int) -> dict[str, str]:
    """This package's modules (torch_weights.py) -> MMSegmentation's, for a decoder with `rates` dilated branches."""
    names = {"backbone": "backbone"}
    names |= {f"decoder.aspp_{i}": f"decode_head.aspp_modules.{i}" for i in range(rates + 1)}
    return names | {
        "decoder.image_pool": "decode_head.image_pool.1",  # position 0 is the pooling itself
        "decoder.bottleneck": "decode_head.bottleneck",
        "classifier.conv": "decode_head.conv_seg",
    }


def rates_in(keys: Iterable[str]) -> int:
    """The number of dilated branches in a state dict: all of `aspp_modules` less the 1x1 branch."""
    branches = {key.split(".")[2] for key in keys if key.startswith("decode_head.aspp_modules.")}
    return max(len(branches) - 1, 0)
