"""What files of MMSegmentation hold beside backbone and decoder."""

from collections.abc import Sequence

HEAD = "decode_head"  # the module that only a whole segmentor has beside its backbone
SKIPPED = {
    "auxiliary_head": "auxiliary head; the method has none",
    "head": "classifier of whole images",  # MMPretrain's
    "fc": "classifier of whole images",  # of open-mmlab's files
}


def meta(classes: Sequence[str]) -> dict:
    """What stands beside the state dict: it must be there, and has the names of the classes where they are known."""
    return {"dataset_meta": {"classes": list(classes)}} if classes else {}
