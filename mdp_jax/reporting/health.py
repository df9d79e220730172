"""What can be wrong with the vectors of classes, one sentence for each, in training and in `mdp inspect`."""

from collections.abc import Mapping, Sequence
from typing import Any

from mdp_jax.words import counted, some

COLLAPSED, CROWDED = 0.9, 0.5  # mean cosines between classes, rules of thumb
CLOSE = 0.95  # cosine from which two classes are hardly told apart
_SHOWN = 5  # names in a sentence
_SETTLED = 0.25  # share of a run after which its prototypes should lie apart; in the beginning all are alike


def collapse(mean_cosine: float) -> dict[str, str]:
    """Whether all classes lie in one direction.

    Args:
      mean_cosine: between the vectors of different seen classes.

    Returns:
      {"collapse": sentence}, {"crowding": sentence} or {}.
    """
    found = f"the mean cosine between classes is {mean_cosine:.2f}"
    if mean_cosine > COLLAPSED:
        return {"collapse": f"collapse: {found}, above {COLLAPSED}, so that classes are hardly told apart"}
    if mean_cosine > CROWDED:
        return {"crowding": f"crowding: {found}, above {CROWDED}, below which they are well apart"}
    return {}


def close_pairs(names: Sequence[str]) -> dict[str, str]:
    """Whether classes of one set are hardly told apart.

    Args:
      names: of the pairs, as "set: class and class 0.97", the closest first.

    Returns:
      {"close": sentence} or {}.
    """
    if not names:
        return {}
    return {
        "close": f"classes of one set above a cosine of {CLOSE}: {counted(len(names), 'pair')} ({some(names, _SHOWN)})"
    }


def dead(names: Sequence[str], where: str) -> dict[str, str]:
    """Whether classes were never seen.

    Args:
      names: of the classes, as "set/class".
      where: in what they should have been, in words.

    Returns:
      {"dead": sentence} or {}.
    """
    if not names:
        return {}
    count = counted(len(names), "class", "classes")
    return {"dead": f"never seen {where}: {count}, which cannot be learnt ({some(names, _SHOWN)})"}


def still(values: Mapping[str, Any]) -> dict[str, str]:
    """Whether nothing is learnt.

    Args:
      values: of a row of metrics.jsonl, means of several steps; `gradient_norm` and `valid_fraction` are read where
        they are there.

    Returns:
      {"still": sentence} or {}.
    """
    if values.get("gradient_norm") != 0:
        return {}
    ignored, dead = "all pixels are ignored (`mdp data check` counts them)", "the features of all pixels are 0"
    share = values.get("valid_fraction")
    cause = f"{ignored}, or {dead}" if share is None else ignored if share == 0 else dead
    return {"still": f"the gradient was 0 in each of the last steps, so nothing was learnt: {cause}"}


def of_training(
    values: Mapping[str, Any], step: int, steps: int, unseen: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """The sentences about a run under way.

    Args:
      values: of a row of metrics.jsonl, as for `still`; `bank_cosine` and `dataset_epochs` are read too.
      step: steps taken.
      steps: of the whole run.
      unseen: dataset -> its classes without a pixel so far, in the order of `dataset_epochs`.

    Returns:
      {kind: sentence}.
    """
    found = still(values) if step > 1 else {}  # before the first update no class has a prototype to learn from
    if "bank_cosine" in values and step >= _SETTLED * steps:
        alike = collapse(float(values["bank_cosine"]))
        # A run becomes less crowded to its end.
        found |= alike if step == steps else {kind: line for kind, line in alike.items() if kind == "collapse"}
    epochs = values.get("dataset_epochs", ())
    names = [
        f"{dataset}/{label}"
        for (dataset, labels), epoch in zip(unseen.items(), epochs, strict=False)
        if epoch >= 1
        for label in labels
    ]
    return found | dead(names, "in a whole epoch of their set")
