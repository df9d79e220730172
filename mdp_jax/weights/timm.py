"""What files of timm hold besides the backbone. timm has no whole segmentation networks."""

from collections.abc import Sequence

SKIPPED = {"head": "classifier of whole images", "fc": "classifier of whole images"}


def meta(classes: Sequence[str]) -> None:
    """None: timm's files hold the state dict alone.

    Args:
      classes: not used.
    """
    del classes
