"""Which files a dataset has, and what to say where some are missing. Directories are listed; no file is opened."""

import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from mdp_jax.errors import UserError

_SHOWN = 8  # entries of a directory that an error lists


def root_of(config: ConfigDict, data_dir: str, entries: Sequence[str]) -> pathlib.Path:
    """The folder of a dataset: its `root`, joined to `data_dir` unless absolute.

    UserError where it is no folder, or lacks one of the files and folders that are expected in it; it says what is
    there instead.
    """
    root = pathlib.Path(os.path.expanduser(data_dir), os.path.expanduser(config.root))
    expected = f"expected {_and(entries)} in it"
    if not root.is_dir():
        raise UserError(f"{root} of dataset {config.name!r} is no folder; {expected}; {found_at(root)}")
    for entry in entries:
        if not (root / entry).exists():
            raise UserError(f"{root} of dataset {config.name!r} has no {entry}; {expected}; {found_at(root)}")
    return root


def split_of(config: ConfigDict, split: str, names: Mapping[str, str]) -> str:
    """The name that a dataset itself has for a split; UserError where it has none."""
    if split not in names:
        raise UserError(f"dataset {config.name!r} has no labelled split {split!r}; expected {' or '.join(names)}")
    return names[split]


def files(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """The files of a folder whose names end with one of the suffixes, in any case: name without suffix -> path.

    Hidden files are not ours. Names are in composed form (NFC). UserError where the folder is none, where it has no
    such file, where a name is no UTF-8, and where two files have one name without suffix.
    """
    expected = f"expected files {', '.join(suffixes)} in it"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; {expected}; {found_at(folder)}")
    found: dict[str, str] = {}
    lowered = tuple(suffix.lower() for suffix in suffixes)
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or not name.lower().endswith(lowered):
            continue
        _require_text(folder, name)
        stem = composed(name[: -next(len(suffix) for suffix in lowered if name.lower().endswith(suffix))])
        if stem in found:
            first = os.path.basename(found[stem])
            raise UserError(f"{folder / name} has the name of {first}; expected one file for each name")
        found[stem] = f"{folder}{os.sep}{name}"
    if not found:
        raise UserError(f"{folder} has no such file: {expected}; {found_at(folder)}")
    return found


def _require_text(folder: pathlib.Path, name: str) -> None:
    """UserError where the bytes of a file's name are no UTF-8: other libraries cannot open it, or write its name."""
    try:
        f"{folder}/{name}".encode()
    except UnicodeEncodeError:
        raise UserError(f"{os.fsencode(folder / name)!r}: expected a file name in UTF-8") from None


def composed(name: str) -> str:
    """One form of names that look the same: some systems write an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, in the order of their names; UserError where there are none."""
    found = [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    if not found:
        raise UserError(f"{folder} holds no folder; expected one for each city; {found_at(folder)}")
    return found


def paired(
    photos: Mapping[str, str], masks: Mapping[str, str], photo_place: str, mask_place: str
) -> list[tuple[str, str]]:
    """(photo, mask) of every name, in the order of the names.

    `photo_place` and `mask_place` are paths with * for the name, for errors. UserError where a photo has no mask or a
    mask no photo.
    """
    for here, there, kind, place in ((photos, masks, "mask", mask_place), (masks, photos, "photo", photo_place)):
        alone = sorted(here.keys() - there.keys())
        if alone:
            more = f"; so it is with {len(alone)} of {len(here)} files" if len(alone) > 1 else ""
            raise UserError(f"{here[alone[0]]} has no {kind}; expected {place.replace('*', alone[0])}{more}")
    return [(photos[name], masks[name]) for name in sorted(photos)]


def listed(
    file: pathlib.Path,
    names: Sequence[tuple[int, str]],
    photos: Mapping[str, str],
    masks: Mapping[str, str],
    places: tuple[str, str],
) -> list[tuple[str, str]]:
    """(photo, mask) of the names in a list file, in its order.

    `names`: (line, name); `places`: paths of a photo and a mask with * for the name, for errors. UserError where the
    list names a photo or mask that is missing, or a name twice.
    """
    lines: dict[str, int] = {}
    names = [(line, composed(name)) for line, name in names]
    for line, name in names:
        for found, place in zip((photos, masks), places, strict=True):
            if name not in found:
                missing = sum(other not in found for _, other in names)
                path = place.replace("*", name)
                more = f"; so it is with {missing} of the list's {len(names)} names" if missing > 1 else ""
                raise UserError(f"{file} line {line} names {name}; expected {path}, which is missing{more}")
        if name in lines:
            raise UserError(f"{file} line {line} names {name} as line {lines[name]} does; expected each name once")
        lines[name] = line
    return [(photos[name], masks[name]) for _, name in names]


def lines(path: pathlib.Path, expected: str) -> list[str]:
    """The lines of a text file, stripped; UserError where it is missing or not UTF-8, saying what was `expected`."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # "-sig": some editors begin a file with a mark
    except FileNotFoundError:
        raise UserError(f"{path} is missing; expected {expected}; {found_at(path)}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected {expected}") from None
    except ValueError:
        raise UserError(f"{path} is not UTF-8 text; expected {expected}") from None
    return [line.strip() for line in text.splitlines()]


def found_at(path: pathlib.Path) -> str:
    """What is in a folder, or in the first one above it that exists."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    try:
        entries = sorted(os.listdir(path))
    except OSError as error:
        return f"{path} cannot be listed ({error.strerror})"
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"{path} holds {', '.join(entries[:_SHOWN]) or 'nothing'}{more}"


def _and(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]
