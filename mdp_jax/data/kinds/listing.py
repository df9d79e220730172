"""Lists the files of a dataset, and says what is missing. Directories are listed; no photo or mask is opened."""

import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from mdp_jax.configs import SourceConfig
from mdp_jax.data.kinds.kind import RootedConfig
from mdp_jax.errors import UserError
from mdp_jax.storage import buckets
from mdp_jax.storage import folders as trees
from mdp_jax.storage.files import read_bytes, shown, unreadable
from mdp_jax.storage.paths import joined
from mdp_jax.words import some

_SHOWN = 8  # entries of a directory that an error lists
_CITIES = "expected one for each city"
# Ends of names of pictures, whether a kind reads them or not.
_OF_JPEG = (".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl")
_OF_NETPBM = (".pbm", ".pgm", ".pnm", ".ppm")
_IMAGES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".png", ".tif", ".tiff", ".webp", *_OF_JPEG, *_OF_NETPBM)
_UNREADABLE = (".heic", ".heif", ".jxl")  # which OpenCV's wheels do not decode
# Ends of names of the files that images.read_photo reads; and of those that images.read_mask reads and keeps exact.
PHOTOS = tuple(suffix for suffix in _IMAGES if suffix not in _UNREADABLE)
MASKS = (".bmp", ".pgm", ".png", ".pnm", ".tif", ".tiff")
_NO_PLACE = "not where this kind of dataset has its files"


def folder_of(root: str, data_dir: str, name: str) -> pathlib.Path:
    """The folder of a dataset; it need not exist.

    Args:
      root: of the dataset's config.
      data_dir: of the run, to which `root` is joined unless absolute.
      name: of the dataset, for errors.

    Returns:
      The path, with ~ expanded.

    Raises:
      UserError: `root` or `data_dir` is no path.
    """
    for key, value in (("root", root), ("data_dir", data_dir)):
        if not isinstance(value, str):
            raise UserError(f"dataset {name!r} has {key} = {value!r}; expected the path of a folder, in quotes")
        if "\0" in value:
            raise UserError(f"dataset {name!r} has {key} = {value!r}; expected a path without NUL bytes")
    return joined(data_dir, root)


def root_of(config: RootedConfig, data_dir: str, entries: Sequence[str]) -> pathlib.Path:
    """The folder of a dataset: its `root`, joined to `data_dir` unless absolute.

    Args:
      config: of the dataset.
      data_dir: of the run.
      entries: files and folders that are expected in it.

    Returns:
      The folder.

    Raises:
      UserError: it is not a folder, or lacks an entry. The message says what is there instead.
    """
    root = folder_of(config.root, data_dir, config.name)
    expected = f"expected {_and(entries)} in it"
    if not trees.is_dir(root):
        raise UserError(f"{shown(root)} of dataset {config.name!r} is no folder; {expected}; {found_at(root)}")
    for entry in entries:
        if not trees.exists(root / entry):
            raise UserError(f"{root} of dataset {config.name!r} has no {entry}; {expected}; {found_at(root)}")
    return root


def split_of(config: SourceConfig, split: str, names: Mapping[str, str]) -> str:
    """The name that a dataset itself has for a split.

    Args:
      config: of the dataset.
      split: "train", "val" or "test".
      names: split -> the dataset's own name.

    Returns:
      The dataset's own name.

    Raises:
      UserError: the dataset has no such split.
    """
    if split not in names:
        raise UserError(f"dataset {config.name!r} has no labelled split {split!r}; expected {' or '.join(names)}")
    return names[split]


def files(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Lists the files of a folder whose names end with one of the suffixes, in any case; hidden files are left out.

    Args:
      folder: the folder; its sub-folders are not listed.
      suffixes: with their dots.

    Returns:
      {name without suffix, in composed form (NFC): path}.

    Raises:
      UserError: it is not a folder or has no such file, a name is not UTF-8, or two files have the same name without
        suffix.
    """
    expected = f"expected files {', '.join(suffixes)} in it"
    found: dict[str, str] = {}
    lowered = tuple(suffix.lower() for suffix in suffixes)
    for name in _entries(folder, expected):
        if name.startswith(".") or not name.lower().endswith(lowered):
            continue
        require_text(folder, name)
        stem = composed(name[: -next(len(suffix) for suffix in lowered if name.lower().endswith(suffix))])
        if stem in found:
            first = os.path.basename(found[stem])
            raise UserError(f"{folder / name} has the name of {first}; expected one file for each name")
        found[stem] = f"{folder}{os.sep}{name}"
    if not found:
        raise UserError(f"{folder} has no such file: {expected}; {found_at(folder)}")
    return found


def _entries(folder: pathlib.Path, expected: str) -> list[str]:
    """The names in a folder, sorted."""
    if not trees.is_dir(folder):
        raise UserError(f"{shown(folder)} is no folder; {expected}; {found_at(folder)}")
    try:
        return trees.names(folder)
    except OSError as error:
        raise unreadable(folder, error, f"a folder; {expected}") from None


def passed_over(
    folders: Iterable[pathlib.Path],
    taken: Iterable[str],
    known: tuple[str, ...] = (),
    why: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Finds the image files in folders and their sub-folders that are not in a sample.

    Args:
      folders: of photos and masks.
      taken: paths of the files of the samples.
      known: ends of the names of other files of a release.
      why: path -> reason, of those files whose reason the caller knows.

    Returns:
      {path: why it is passed over}, sorted; without hidden files and hidden folders.
    """
    ours, found = set(taken), []
    for top in folders:
        paths = (f"{top}{os.sep}{name}" for name in nested(top) if not name.endswith(known))
        found += [path for path in paths if path not in ours]
    return {path: (why or {}).get(path) or _reason(path) for path in sorted(found)}


def nested(folder: pathlib.Path) -> list[str]:
    """Lists the image files in a folder and its sub-folders; hidden ones are left out.

    Args:
      folder: need not exist.

    Returns:
      Their paths from the folder on, in order.
    """
    found = []
    in_bucket = buckets.is_bucket(folder)
    places = trees.walk(os.fspath(folder)) if in_bucket else os.walk(folder, followlinks=True)
    for place, inside, names in places:
        inside[:] = [name for name in inside if not name.startswith(".") and (in_bucket or not leads_back(place, name))]
        start = len(os.fspath(folder)) + 1
        found += [f"{place}{os.sep}{name}"[start:] for name in names if is_image(name)]
    return sorted(found)


def leads_back(folder: str, name: str) -> bool:
    """Whether an entry is a link to a folder that it lies in, so that following it would never end.

    Args:
      folder: that the entry is in.
      name: of the entry.
    """
    path = f"{folder}{os.sep}{name}"
    return os.path.islink(path) and f"{os.path.realpath(folder)}{os.sep}".startswith(
        f"{os.path.realpath(path)}{os.sep}"
    )


def _reason(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    return f"in the format {suffix}, which is not read" if suffix in _UNREADABLE else _NO_PLACE


def is_image(name: str) -> bool:
    """Whether a file is a picture by its name, read or not; a hidden one is none.

    Args:
      name: of the file.
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _IMAGES


def require_text(folder: pathlib.Path, name: str) -> None:
    """Checks a file's name: other libraries can neither open nor write one that is no UTF-8.

    Args:
      folder: that the file is in.
      name: of the file.

    Raises:
      UserError: the bytes of the name are no UTF-8.
    """
    try:
        f"{folder}/{name}".encode()
    except UnicodeEncodeError:
        raise UserError(f"{os.fsencode(folder / name)!r}: expected a file name in UTF-8") from None


def composed(name: str) -> str:
    """Gives names that look the same one form (NFC): some systems write an accent as a separate character.

    Args:
      name: of a file.
    """
    return unicodedata.normalize("NFC", name)


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the folders in a folder.

    Args:
      folder: the folder.

    Returns:
      Their paths, in the order of their names.

    Raises:
      UserError: there are none.
    """
    names = _entries(folder, _CITIES) if trees.is_dir(folder) else []
    found = [folder / name for name in names if trees.is_dir(folder / name)]
    if not found:
        raise UserError(f"{folder} holds no folder; {_CITIES}; {found_at(folder)}")
    return found


def paired(
    photos: Mapping[str, str], masks: Mapping[str, str], photo_place: str, mask_place: str
) -> list[tuple[str, str]]:
    """Pairs the photo and the mask of every name.

    Args:
      photos: name -> path.
      masks: name -> path.
      photo_place: the path of a photo with * for the name, for errors.
      mask_place: the path of a mask with * for the name, for errors.

    Returns:
      Pairs of paths, in the order of the names.

    Raises:
      UserError: a photo has no mask, or a mask no photo.
    """
    for here, there, kind, place in ((photos, masks, "mask", mask_place), (masks, photos, "photo", photo_place)):
        alone = sorted(here.keys() - there.keys())
        if alone:
            more = f"; the same holds for {len(alone)} of {len(here)} files" if len(alone) > 1 else ""
            raise UserError(f"{here[alone[0]]} has no {kind}; expected {place.replace('*', alone[0])}{more}")
    return [(photos[name], masks[name]) for name in sorted(photos)]


def listed(
    file: pathlib.Path,
    names: Sequence[tuple[int, str]],
    photos: Mapping[str, str],
    masks: Mapping[str, str],
    places: tuple[str, str],
) -> list[tuple[str, str]]:
    """Pairs the photo and the mask of the names in a list file.

    Args:
      file: the list.
      names: pairs of a line number and the name on it.
      photos: name -> path.
      masks: name -> path.
      places: paths of a photo and a mask with * for the name, for errors.

    Returns:
      Pairs of paths, in the order of the list.

    Raises:
      UserError: the list names a photo or mask that is missing, or a name twice.
    """
    lines: dict[str, int] = {}
    names = [(line, composed(name)) for line, name in names]
    for line, name in names:
        for found, place in zip((photos, masks), places, strict=True):
            if name not in found:
                missing = sum(other not in found for _, other in names)
                path = place.replace("*", name)
                more = f"; the same holds for {missing} of the list's {len(names)} names" if missing > 1 else ""
                raise UserError(f"{file} line {line} names {name}; expected {path}, which is missing{more}")
        if name in lines:
            raise UserError(f"{file} line {line} names {name} as line {lines[name]} does; expected each name once")
        lines[name] = line
    return [(photos[name], masks[name]) for _, name in names]


def lines(path: pathlib.Path, expected: str) -> list[str]:
    """Reads the lines of a text file.

    Args:
      path: of the file.
      expected: what it should hold, for errors.

    Returns:
      Its lines, stripped.

    Raises:
      UserError: it is missing, not a regular file, or not UTF-8.
    """
    if not trees.exists(path):
        raise UserError(f"{shown(path)} is missing; expected {expected}; {found_at(path)}")
    try:
        text = read_bytes(path, f"a text file with {expected}").decode("utf-8-sig")  # some editors begin it with a mark
    except ValueError:
        raise UserError(f"{path} is not UTF-8 text; expected {expected}") from None
    return [line.strip() for line in text.splitlines()]


def class_names(path: pathlib.Path, most: int, why: str) -> tuple[str, ...]:
    """Reads class names, one on each line.

    Args:
      path: of the file.
      most: number of classes, at most.
      why: the reason of it, for the error.

    Returns:
      The names, in their order.

    Raises:
      UserError: the file is missing, not UTF-8 or empty, has too many names, an empty line or a name twice.
    """
    names = tuple(lines(path, "one class name on each line"))
    if not names:
        raise UserError(f"{path} is empty; expected one class name on each line")
    if len(names) > most:
        raise UserError(f"{path} has {len(names)} classes; expected at most {most}, {why}")
    for i, name in enumerate(names):
        if not name:
            raise UserError(f"{path} line {i + 1} is empty; expected a class name on each line")
        if name in names[:i]:
            raise UserError(f"{path} line {i + 1} repeats class {name!r}; expected each class name once")
    return names


def found_at(path: pathlib.Path) -> str:
    """Says in words what is in a folder, or in the first folder above it that exists.

    Args:
      path: of the folder.
    """
    path = path.absolute()
    while not trees.is_dir(path) and len(path.parts) > 2:  # of a bucket the first two are its name
        path = path.parent
    try:
        entries = trees.names(path)
    except OSError as error:
        return f"{path} cannot be listed ({error.strerror})"
    return f"{path} holds {some(entries, _SHOWN) or 'nothing'}"


def _and(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]
