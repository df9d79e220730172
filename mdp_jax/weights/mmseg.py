"""What files of MMSegmentation hold besides backbone and decoder."""

from collections.abc import Sequence

HEAD = "decode_head"  # the module that only a whole segmentor has besides its backbone
SKIPPED = {
    "head": "classifier of whole images",  # MMPretrain's
    "fc": "classifier of whole images",  # of open-mmlab's files
}

# The auxiliary head of a fine-tuning: our module -> theirs.
AUXILIARY = {"auxiliary.convs_0": "auxiliary_head.convs.0", "auxiliary.classifier.conv": "auxiliary_head.conv_seg"}


def meta(classes: Sequence[str]) -> dict:
    """The "meta" of a file, which MMSegmentation requires.

    Args:
      classes: names of the classes; empty where they are unknown.
    """
    return {"dataset_meta": {"classes": list(classes)}} if classes else {}
