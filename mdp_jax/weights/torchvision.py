"""What files of torchvision hold besides backbone and decoder."""

from collections.abc import Sequence

HEAD = "classifier"  # the module that only a whole segmentation network has besides its backbone
SKIPPED = {
    "fc": "classifier of whole images",
}

# The auxiliary head of a fine-tuning: our module -> theirs.
AUXILIARY = {
    "auxiliary.convs_0.conv": "aux_classifier.0",
    "auxiliary.convs_0.bn": "aux_classifier.1",
    "auxiliary.classifier.conv": "aux_classifier.4",
}


def meta(classes: Sequence[str]) -> None:
    """None: torchvision's files hold the state dict alone.

    Args:
      classes: not used.
    """
    del classes
