"""The weights of the classes in the loss of fine-tuning: as they are given, or counted in the training masks."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mdp_jax.configs import FinetuneConfig
from mdp_jax.data.doctor import scan
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError
from mdp_jax.method.segmentation_losses import EFFECTIVE, INVERSE, effective_frequencies, inverse_frequencies

_BLOCK = 16  # photos that a thread looks at in a row
COUNTED: dict[str, Callable[[scan.Found, float], tuple[float, ...]]] = {
    INVERSE: lambda found, beta: inverse_frequencies(found.pixels[1:]),
    EFFECTIVE: lambda found, beta: effective_frequencies(found.photos[1:], beta),
}


def counted(source: Source) -> scan.Found:
    """Counts pixels and photos of each class in all masks of a source, as `mdp data check` does of masks of this size.

    Args:
      source: of the training photos, as the config opens them, in the size of its `data.short_side`.

    Raises:
      UserError: no mask has a labelled pixel.
    """
    found = scan.nothing(len(source.classes))
    starts = range(0, len(source), _BLOCK)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = (range(start, min(start + _BLOCK, len(source))) for start in starts)
        for block in pool.map(lambda indices: scan.look(source, indices, compare=False), blocks):
            found.add(block)
    if not found.pixels[1:].any():
        raise UserError(f"dataset {source.name!r}: no mask has a labelled pixel, so class weights cannot be counted")
    return found


def require_number(config: FinetuneConfig, source: Source) -> None:
    """Checks that weights that are given are one for each class.

    Args:
      config: checked; `loss` is read.
      source: of the training photos.

    Raises:
      UserError: there are more or fewer weights than classes.
    """
    weights, classes = config.loss.class_weights, source.classes
    if weights and not _is_counted(weights) and len(weights) != len(classes):
        raise UserError(
            f"config.loss.class_weights: {len(weights)} weights; expected {len(classes)}, one for each class of "
            f"dataset {source.name!r}, in the order of their ids, which mdp data check shows"
        )


def _is_counted(weights: tuple) -> bool:
    return len(weights) == 1 and weights[0] in COUNTED


def of_classes(config: FinetuneConfig, source: Source) -> tuple[float, ...]:
    """The weights of a run's classes.

    Args:
      config: checked, as `require_number` does too; `loss` is read.
      source: of the training photos.

    Returns:
      A weight for each class; () = all 1.

    Raises:
      UserError: there is nothing to count.
    """
    weights = config.loss.class_weights
    if not _is_counted(weights):
        return tuple(float(weight) for weight in weights)
    return COUNTED[weights[0]](counted(source), config.loss.effective_beta)
