"""Which photos are for training and which for validation: as the source says, by lists, or by share and seed."""

import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from mdp_jax.data.imported import names
from mdp_jax.data.imported.names import SPLIT_OF
from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError
from mdp_jax.storage.files import read_bytes
from mdp_jax.storage.json_files import read_json
from mdp_jax.words import counted, some

TRAIN, VAL, TEST = "train", "val", "test"
_EXPECTED = "lists of names, such as train: [a, b] and val: [c]"
Lists = Mapping[str, Sequence[str]]


def read_lists(files: Sequence[str]) -> dict[str, list[str]]:
    """Reads the lists of the photos of each split.

    Args:
      files: YAML or JSON of {split: [name, ...]}; or text files with a name on each line, whose own names hold that of
        the split.

    Returns:
      {split: names}.

    Raises:
      UserError: a file is something else, or no training or no validation photos are listed.
    """
    lists: dict[str, list[str]] = {}
    for file in files:
        for word, found in _lists_of(file).items():
            split = SPLIT_OF.get(word.lower())
            if split is None:
                raise UserError(
                    f"--split {file}: no split is called {word!r:.60}; expected one of {', '.join(SPLIT_OF)}"
                )
            lists.setdefault(split, []).extend(found)
    if files and (not lists.get(TRAIN) or not (lists.get(VAL) or lists.get(TEST))):
        raise UserError(
            f"--split {' '.join(files)}: lists of {' and '.join(lists) or 'nothing'}; expected train, and val or test"
        )
    return lists


def _lists_of(file: str) -> dict[str, list[str]]:
    suffix = pathlib.Path(file).suffix.lower()
    if suffix == ".json":
        return read_json(file, f"{_EXPECTED} in JSON", {str: [str]})
    if suffix not in (".yaml", ".yml"):
        split = names.split_of(pathlib.Path(file).name)
        if pathlib.Path(file).is_dir():
            raise UserError(
                f"--split {file}: a folder; expected files of it, as --split {file}/train.txt {file}/val.txt"
            )
        if not split:
            raise UserError(
                f"--split {file}: expected a name with train, val or test in it, or YAML or JSON of {_EXPECTED}"
            )
        return {split: [line for line in listing.lines(pathlib.Path(file), "a name on each line") if line]}
    try:
        # All values as text: YAML would take 010 for the number 8.
        value = yaml.load(read_bytes(file, f"{_EXPECTED} in YAML"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"--split {file}: not valid YAML ({' '.join(str(error).split())[:200]}); expected {_EXPECTED}"
        ) from None
    fits = isinstance(value, dict) and all(
        isinstance(found, list) and all(isinstance(name, str) for name in found) for found in value.values()
    )
    if not fits:
        raise UserError(f"--split {file}: {value!r:.80}; expected {_EXPECTED}")
    return value


def by_lists(lists: Lists, photos: Sequence[tuple[str, str]], skip_missing: bool) -> tuple[list[str], list[str]]:
    """The split of each photo by the lists.

    Args:
      lists: split -> names, as paths, file names, names without suffix, or the numbers in them.
      photos: (name, path) of each.
      skip_missing: whether names without a photo are passed over.

    Returns:
      The split of each photo, "" for none; and what is to be said.

    Raises:
      UserError: a name is in two lists, is that of no photo, or of several.
    """
    index: dict[str, set[int]] = {}
    for number, (name, path) in enumerate(photos):
        base = listing.composed(pathlib.PurePath(path).name)
        stem = base.rsplit(".", 1)[0]
        for word in {name, name.rsplit("/", 1)[-1], base, stem, f"{name}{pathlib.PurePath(base).suffix}"}:
            index.setdefault(word, set()).add(number)
    numbers: dict[int, set[int]] = {}
    for number, (name, _) in enumerate(photos):
        if digits := re.findall(r"\d+", name):
            numbers.setdefault(int(digits[-1]), set()).add(number)
    found = [""] * len(photos)
    missing: list[str] = []
    elsewhere: list[tuple[str, str]] = []
    for split, words in lists.items():
        for word in words:
            which = _numbers_of(listing.composed(word.replace("\\", "/")), index, numbers)
            if len(which) > 1:
                first, second = sorted(photos[number][1] for number in which)[:2]
                raise UserError(
                    f"--split: {word!r:.200} in {split} is the name of {first} and of {second}; expected one photo: "
                    "give more of its path"
                )
            if not which:
                missing.append(word)
                continue
            (number,) = which
            if not _fits(word, *photos[number]):
                elsewhere.append((word, photos[number][1]))
            if found[number] and found[number] != split:
                raise UserError(
                    f"--split: {word!r:.200} is in {found[number]} and in {split}; expected it in one of them"
                )
            found[number] = split
    total = sum(map(len, lists.values()))
    if missing and (not skip_missing or len(missing) == total):
        more = f"; the same holds for {len(missing)} of {total} names" if len(missing) > 1 else ""
        raise UserError(
            f"--split: {missing[0]!r:.200} is the name of no photo{more}; expected names such as {photos[0][0]}, or "
            "--skip_missing, which passes over such names"
        )
    notes = (
        [f"passed over: {counted(len(missing), 'name')} of --split without a photo ({some(missing, 1)})"]
        if missing
        else []
    )
    if elsewhere:
        notes.append(
            f"names of --split with other folders than their photos: {len(elsewhere)} ({elsewhere[0][0]} was taken for "
            f"{elsewhere[0][1]})"
        )
    left = found.count("")
    if left:
        first = photos[found.index("")][1]
        more = f" and {left - 1:,} more" if left > 1 else ""
        notes.append(f"passed over: {counted(left, 'photo')} in no list of --split ({first}{more})")
    return found, notes


def _numbers_of(word: str, index: Mapping[str, set[int]], numbers: Mapping[int, set[int]]) -> set[int]:
    parts = word.split("/")
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        for candidate in (end, end.rsplit(".", 1)[0]):
            if candidate in index:
                return index[candidate]
    return numbers.get(int(word), set()) if word.isdecimal() and len(word) < 18 else set()


def _fits(word: str, name: str, path: str) -> bool:
    """Whether the folders of a name in a list are those of its photo, as far as both have some."""
    listed = pathlib.PurePosixPath(listing.composed(word.replace("\\", "/"))).parts[:-1]
    own = pathlib.PurePosixPath(name).parts[:-1]
    whole = pathlib.PurePath(listing.composed(path)).parts[:-1]
    least = min(len(listed), len(own))
    return listed[len(listed) - least :] == own[len(own) - least :] or whole[-len(listed) :] == listed


def group_expression(pattern: str) -> re.Pattern:
    """The regular expression of the pattern of groups.

    Args:
      pattern: with {group}, such as {group}_*.

    Raises:
      UserError: it has another field, or no {group}.
    """
    return names.expression(pattern, "--group", ("group",), "group")


def groups_of(photo_names: Sequence[str], pattern: str, digests: Sequence[bytes]) -> list[int]:
    """Numbers of groups that stay on one side: by the pattern of the names, and photos with the same pixels.

    Args:
      photo_names: of the photos.
      pattern: with {group}, such as {group}_*; "" = each photo is its own group.
      digests: of the photos' pixels.

    Returns:
      A number for each photo, that of the first photo of its group.

    Raises:
      UserError: a name does not fit to the pattern.
    """
    parent = list(range(len(photo_names)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    match = group_expression(pattern) if pattern else None
    first: dict[tuple[str, object], int] = {}
    for number, (name, digest) in enumerate(zip(photo_names, digests, strict=True)):
        keys: list[tuple[str, object]] = [("pixels", digest)]
        if match:
            fit = match.fullmatch(name)
            if not fit:
                raise UserError(
                    f"--group {pattern}: {name} does not fit it; expected a pattern that fits the name of every photo"
                )
            keys.append(("group", fit["group"]))
        for key in keys:
            one, other = sorted((root(first.setdefault(key, number)), root(number)))
            parent[other] = one
    return [root(number) for number in range(len(parent))]


def by_share(
    photo_names: Sequence[str], groups: Sequence[int], present: np.ndarray, share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Makes a split: groups in an order that depends on the seed and their names alone go to validation one by one.

    A group that has the last photo of a class stays in train, so that every class can be learnt.

    Args:
      photo_names: of the photos.
      groups: of the photos, as `groups_of` gives them.
      present: bool [n, C], the classes in each photo.
      share: of the photos that are for validation, about.
      seed: of the split.

    Returns:
      The split of each photo; and what is to be said.

    Raises:
      UserError: there is but one group.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    if len(members) < 2:
        raise UserError(
            f"{counted(len(photo_names), 'photo')} in one group; expected at least two groups of different photos, one "
            "for train and one for val"
        )
    wanted = max(1, round(share * len(photo_names)))
    left = present.sum(axis=0).astype(np.int64)
    found, taken, kept = [TRAIN] * len(photo_names), 0, 0
    for group in sorted(members, key=lambda group: _rank(seed, min(photo_names[i] for i in members[group]))):
        rows = members[group]
        if taken >= wanted:
            break
        if taken and taken + len(rows) > wanted + max(1, wanted // 4):
            continue  # too large a group for what is left
        here = present[rows].sum(axis=0)
        if len(rows) == len(photo_names) - taken:
            continue
        if np.any((here > 0) & (left - here <= 0)):
            kept += 1
            continue
        left -= here
        taken += len(rows)
        for row in rows:
            found[row] = VAL
    if not taken:
        raise UserError(
            f"no photo can go to val: each of {len(members)} groups has the only photos of some class; label more "
            "photos, or ignore rare classes with --classes KEY=ignore"
        )
    notes = [f"kept in train: {counted(kept, 'group')} with the only photos of a class"] if kept else []
    return found, notes


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
