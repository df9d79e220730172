"""Whether an exported network answers as the network itself does."""

from typing import NamedTuple

import cv2
import jax
import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.evaluation.discriminant import NEVER
from mdp_jax.exporting.program import Form

TOLERANCE = 1e-3  # of the largest logit: what two libraries may differ by, since they add in another order
_ANY = (67, 93)  # a size for those that take any; no multiple of a stride


class Agreement(NamedTuple):
    """How far two networks are apart.

    Attributes:
      pixels: that were compared.
      differing: pixels with another label; at each of them two logits are as good as equal.
      largest: difference of two logits at one place, divided by the largest logit; None where labels were compared.
        A class that is never predicted is no such logit; its own are divided by themselves.
    """

    pixels: int
    differing: int
    largest: float | None

    def described(self) -> str:
        """One phrase."""
        labels = f"the labels of {self.differing} of {self.pixels:,} pixels differ, all of them at a tie"
        labels = labels if self.differing else f"the same labels in all {self.pixels:,} pixels"
        return labels if self.largest is None else f"{labels}; logits differ by {self.largest:.1g} of the largest"


def photos(form: Form, seed: int = 0) -> np.ndarray:
    """Drawn noise, fine and coarse, as photos that a form takes: uint8 [B, H, W, 3].

    Args:
      form: what goes in.
      seed: of the noise.
    """
    rng, (height, width) = np.random.default_rng(seed), form.size or _ANY
    drawn = []
    for _ in range(form.batch or 2):
        coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
        fine = rng.integers(-20, 21, (height, width, 3))
        large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, 3)
        drawn.append(np.clip(large + fine, 0, 255).astype(np.uint8))
    return np.stack(drawn)


def compare(found: np.ndarray, logits: jax.Array | np.ndarray, output: str, what: str) -> Agreement:
    """Compares what an exported network gave with the network's own logits.

    Args:
      found: labels [B, H, W] or logits [B, H, W, C], as `output` says.
      logits: [B, H, W, C].
      output: labels or logits.
      what: the exported network, for the error.

    Returns:
      How far they are apart.

    Raises:
      UserError: further than rounding explains.
    """
    logits, found = np.asarray(logits), np.asarray(found)
    sizes = np.abs(logits)
    # A class that is never predicted has a logit of -1e9: measured by that, all others would be equal.
    scale = float(sizes[logits > NEVER / 2].max(initial=0.0)) or 1.0
    own, largest = logits.argmax(-1), None
    labels = found if output == "labels" else found.argmax(-1)
    if output == "logits":
        behind = largest = float((np.abs(found - logits) / np.maximum(sizes, scale)).max())
    elif labels.min() < 0 or labels.max() >= logits.shape[-1]:
        behind = np.inf
    else:
        chosen = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
        behind = float((logits.max(-1) - chosen).max()) / scale
    if not behind <= TOLERANCE:  # which NaN is not either
        raise UserError(
            f"{what}: its answer differs from the network's by {behind:.2g} of the largest logit; expected at most "
            f"{TOLERANCE:g}; nothing was written. Look for weights that are not finite; if there are none, this is a "
            "mistake of mdp export"
        )
    return Agreement(labels.size, int((labels != own).sum()), largest)
