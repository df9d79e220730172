"""What files of torchvision hold besides backbone and decoder."""

from collections.abc import Sequence

HEAD = "classifier"  # the module that only a whole segmentation network has besides its backbone
SKIPPED = {
    "fc": "classifier of whole images",
    "aux_classifier": "auxiliary head; the method has none",
}


def meta(classes: Sequence[str]) -> None:
    """None: torchvision's files hold the state dict alone.

    Args:
      classes: not used.
    """
    del classes
