"""What files of torchvision hold beside backbone and decoder."""

from collections.abc import Sequence

HEAD = "classifier"  # the module that only a whole segmentation network has beside its backbone
SKIPPED = {
    "fc": "classifier of whole images",
    "aux_classifier": "auxiliary head; the method has none",
}


def meta(classes: Sequence[str]) -> None:
    """Nothing stands beside the state dict."""
    del classes
