"""A pretrained network as a segmenter of classes of which only the names are given (METHOD.md section 9)."""

import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import PretrainConfig
from mdp_jax.data.class_names import NEAR, NameVectors, near, normalised, read_vectors, similarities
from mdp_jax.data.kinds import listing
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation.pretrained import ClassScorer, SetSegmenter
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.storage.paths import expanded
from mdp_jax.words import counted, some

_NEVER = -1e9  # the logit of a class without a match: finite, so that windows and scales can be averaged
_SHOWN = 20  # names whose classes a line has
_MOST = 32767  # classes, as labels are int16


class ByName(NamedTuple):
    """Which classes of a network answer for the given ones.

    Attributes:
      classes: the G given names.
      weights: float32 [G, C], from 0 to 1: how near the name of each class of the network is, 0 where it is not near.
      matches: given name -> {"dataset/class": weight}, of those above 0.
      unseen: given name -> near classes that the network has never seen and that so cannot answer; of the names that
        have no others.
    """

    classes: tuple[str, ...]
    weights: np.ndarray
    matches: dict[str, dict[str, float]]
    unseen: Mapping[str, Sequence[str]] = types.MappingProxyType({})

    @property
    def unknown(self) -> list[str]:
        """The given names that no class of the network is near to; they are never predicted."""
        return [name for name, found in self.matches.items() if not found and name not in self.unseen]

    def said(self) -> list[str]:
        """What is said of them: a line of the names that are known, with who answers, and lines of all others."""
        known = [name for name in self.classes if self.matches[name]]
        answers = [
            f"{name} by "
            + ", ".join(
                f"{own} ({near:.2f})" for own, near in sorted(self.matches[name].items(), key=lambda of: -of[1])
            )
            for name in known[:_SHOWN]
        ]
        lines = [f"who answers, and how near the names are: {'; '.join(answers)}{'; ...' * (len(known) > _SHOWN)}"]
        if self.unknown:
            lines.append(
                f"near to no class of the network, and never predicted: {len(self.unknown)} of "
                f"{counted(len(self.classes), 'name')} ({some(self.unknown, _SHOWN)})"
            )
        if self.unseen:
            lines.append(
                "near only to classes that the network has never seen, and never predicted: "
                f"{some(self.unseen_in_words(), _SHOWN)}"
            )
        return lines

    def unseen_in_words(self) -> list[str]:
        """Each name of `unseen` with its classes."""
        return [f"{name} ({some(near, _SHOWN)})" for name, near in self.unseen.items()]


def read_names(path: str, option: str) -> tuple[str, ...]:
    """Reads the names of classes, one on each line.

    Args:
      path: of a text file.
      option: that named it, such as "--as"; errors begin with it.

    Raises:
      UserError: the file is missing, empty or not UTF-8, has an empty line, or two names that are equal but for case,
        underscores and space.
    """
    try:
        names = listing.class_names(expanded(path), _MOST, "as label maps have 16 bits")
    except UserError as error:
        raise UserError(f"{option} {error}") from None
    require_distinct(names, f"{option} {path}")
    return names


def require_distinct(names: Sequence[str], where: str) -> None:
    """Checks that no two names are one name in the form in which they are compared.

    Args:
      names: of classes.
      where: what the error begins with.

    Raises:
      UserError: two are. The message names both.
    """
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(normalised(name), name)
        if other != name:
            raise UserError(
                f"{where}: {other!r:.80} and {name!r:.80} are one name, but for case, underscores and space; expected "
                "each name once"
            )


def by_name(
    given: Sequence[str],
    label_space: LabelSpace,
    where: str,
    names_file: str = "",
    threshold: float | None = None,
    seen: np.ndarray | None = None,
) -> ByName:
    """Finds the classes of a network whose names are near to given ones (METHOD.md section 9).

    Args:
      given: G names, no two of which are equal when normalised.
      label_space: of the network.
      where: what the error begins with.
      names_file: an .npz of names and vectors, of the given ones and of those of the network; "" = equal names alone.
      threshold: with a file, the smallest cosine of names that are near; None = NEAR.
      seen: bool [C], the classes that the network has seen, as `seen_classes` gives them; None = all. Others have no
        prototype, so they do not answer.

    Raises:
      UserError: the file of names cannot be used, a threshold is given without it, or no name has a match.
    """
    if threshold is not None and not names_file:
        raise UserError(f"--near {threshold:g}: a cosine of vectors; expected --names FILE too")
    least = 1.0 if not names_file else NEAR if threshold is None else threshold
    vectors: NameVectors | None = read_vectors(names_file, "--names") if names_file else None
    rows = label_space.rows()
    theirs = sorted({row["class"] for row in rows})
    cosines = similarities(given, theirs, vectors)
    cosines = np.where(near(cosines, least), np.clip(cosines, 0, 1), 0)
    weights = np.zeros((len(given), label_space.num_classes), np.float32)
    for row in rows:  # a class of several sets may have several spellings; the nearest counts
        found = cosines[:, theirs.index(row["class"])]
        weights[:, row["global_id"]] = np.maximum(weights[:, row["global_id"]], found)
    full = label_space.global_names()
    near_to = [[full[i] for i in np.flatnonzero(weight).tolist()] for weight in weights]
    if seen is not None:
        weights = np.where(seen, weights, np.float32(0))
    matches = {
        name: {full[i]: round(float(weight[i]), 4) for i in np.flatnonzero(weight).tolist()}
        for name, weight in zip(given, weights, strict=True)
    }
    unseen = {name: names for name, names in zip(given, near_to, strict=True) if names and not matches[name]}
    answers = ByName(tuple(given), weights, matches, unseen)
    if unseen and not weights.any():
        raise UserError(
            f"{where}: only classes that the network has never seen are near: {some(answers.unseen_in_words(), 8)}; "
            "expected a name near to one that it has seen"
        )
    if not weights.any():
        how = f"a cosine of at least {least:g} in {names_file}" if vectors else "an equal name"
        more = "" if vectors else "; --names FILE takes near names too"
        raise UserError(
            f"{where}: no class of the network has {how}; it has {some(theirs, 8)}; expected at least one match{more}"
        )
    return answers


def seen_classes(config: PretrainConfig, variables: Mapping) -> np.ndarray | None:
    """Which classes a network has seen.

    Args:
      config: of `mdp pretrain`.
      variables: {"params", "batch_stats", "memory"}.

    Returns:
      bool [C]; None for an objective without prototypes, whose classifier has weights for all classes.
    """
    bank = OBJECTIVES[config.objective].bank
    return None if bank is None else np.asarray(bank(variables["memory"]).images_seen) > 0


class NamedSegmenter(ClassScorer):
    """A scorer of given names: log((1/n_g) sum_c a_gc exp(z_c)), the sum over the n_g classes that match g."""

    def __init__(self, config: PretrainConfig, label_space: LabelSpace, found: ByName):
        """Makes it.

        Args:
          config: of `mdp pretrain`.
          label_space: of all its datasets.
          found: the matches.

        Raises:
          UserError: an objective without classes.
        """
        ids = np.flatnonzero(found.weights.any(axis=0))
        scorer, weights = SetSegmenter(config, label_space, ids), found.weights[:, ids]
        known = weights.any(axis=1)
        shares = weights / np.maximum((weights > 0).sum(axis=1, keepdims=True), 1)

        def logits(variables: dict, images: jax.Array) -> jax.Array:
            z = scorer.apply(variables, images, train=False)
            z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
            of_each = jnp.broadcast_to(z[..., None, :], (*z.shape[:-1], *shares.shape))
            summed = jax.nn.logsumexp(of_each, axis=-1, b=shares.reshape((1, 1, 1, *shares.shape)))
            return jnp.where(known.reshape((1, 1, 1, -1)), summed, _NEVER)

        super().__init__(logits)


def is_file(value: str) -> bool:
    """Whether a value of --as names a file and not a set: it ends in .txt, or is a file.

    Args:
      value: of the option.
    """
    return pathlib.PurePath(value).suffix.lower() == ".txt" or os.path.isfile(expanded(value))
