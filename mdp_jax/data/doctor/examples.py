"""Chooses samples that show what a network will see: pairs of each kind of mixing, photos of each class."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mdp_jax.data.doctor.scan import cores
from mdp_jax.data.kinds.kind import Source
from mdp_jax.reporting import contact_sheet

_BATCHES = 20  # that are searched for pairs of each kind


def pairs_of_each_kind(batches: Iterable[dict], pairs: int, shares: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Takes the first pairs of each kind of mixing, in the order of the run.

    Args:
      batches: what pipeline.pretrain_batches gives.
      pairs: number of pairs. A kind gets its share of them, rounded, and at least one.
      shares: of the kinds, as mixture.shares gives them.

    Returns:
      A batch of these pairs; fewer where the first batches do not hold them.
    """
    share_of = {kind: shares[name] for kind, name in contact_sheet.KINDS.items() if shares[name] > 0}
    missing = {kind: max(1, round(pairs * share)) for kind, share in share_of.items()}
    found = []
    for batch in itertools.islice(batches, _BATCHES):
        numbers = []
        for number, kind in enumerate(batch["mix_kind"].tolist()):
            if missing[kind] > 0:
                missing[kind] -= 1
                numbers.append(number)
        found.append(contact_sheet.choose_pairs(batch, numbers))
        if not any(missing.values()):
            break
    return joined(found)


def joined(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins batches.

    Args:
      batches: at least one; all have the same keys.

    Returns:
      A batch of all their rows, in their order.
    """
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def spread(source: Source, count: int) -> list[int]:
    """Chooses samples that are evenly spaced over a source.

    Args:
      source: has at least one sample.
      count: number of samples, at most.

    Returns:
      Their indices, each once, in order.
    """
    return np.unique(np.linspace(0, len(source) - 1, min(len(source), count)).astype(int)).tolist()


def photos_of_each_class(
    source: Source, indices: Sequence[int], count: int, report: Callable[[int], None]
) -> dict[str, list[int]]:
    """Finds the photos in which each class has the largest share.

    Args:
      source: what sources.open_source gives.
      indices: of the photos that are read.
      count: photos of each class, at most.
      report: called with the number of photos done.

    Returns:
      {class: indices, the one with the greatest share first}; no indices where no photo has the class.
    """

    def shares(index: int) -> np.ndarray:
        label = source[index]["label"]
        return np.bincount(label.ravel().astype(np.int64) + 1, minlength=len(source.classes) + 1)[1:] / label.size

    of_photos = []
    with ThreadPoolExecutor(cores()) as pool:
        for found in pool.map(shares, indices):
            of_photos.append(found)
            report(len(of_photos))
    table = np.stack(of_photos)
    order = np.argsort(-table, axis=0, kind="stable")[:count]
    return {
        name: [indices[row] for row in order[:, column] if table[row, column] > 0]
        for column, name in enumerate(source.classes)
    }
