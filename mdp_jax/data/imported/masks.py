"""Masks that are pictures: colours, palettes, values of any number, and the names that people give them."""

import collections
import functools
import pathlib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.imported import names
from mdp_jax.data.imported.form import (
    IGNORED,
    MASKS,
    Drawn,
    Form,
    Key,
    Labelled,
    Opened,
    Options,
    Photo,
    classes_of,
    fitted,
)
from mdp_jax.data.imported.names import Named
from mdp_jax.data.imported.naming import Entry, Naming, colour_key, colour_of
from mdp_jax.data.imported.place import Place
from mdp_jax.data.kinds import classes, listing
from mdp_jax.data.kinds.classes import IGNORE
from mdp_jax.errors import UserError
from mdp_jax.reporting.progress import Progress
from mdp_jax.words import counted, some

_MOST_KEYS = 256  # colours or values of a set of masks; more are not those of classes
_JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")  # listed as masks, so that they are refused by name
_UNKNOWN = -2
_NOT_EXACT = (
    "masks that were resized, smoothed or once saved as JPEG are not exact, and photos are no masks; with --classes "
    "for the colours of classes, --others ignore ignores all others"
)


def _open(place: Place, options: Options) -> Opened:
    pairs, notes = _pairs(place, options)
    if options.palette and options.naming:
        raise UserError(f"--palette {options.palette}: expected it without --classes, or --classes alone")
    naming = _released(options.palette) if options.palette else options.naming
    counted = _counted([mask for _, _, mask in pairs], options.workers, exact=not naming)
    if naming:
        in_colours = _in_colours(naming, options)
        keys, unconfirmed = _found(counted, in_colours, named=True), []
        differing = "" if in_colours else _differing(counted)
        notes += [f"{differing}: --classes has values, so the colours do not matter"] if differing else []
    else:
        in_colours = any(one.coloured for one in counted)
        if not in_colours and (differing := _differing(counted)):
            raise UserError(
                f"{differing}; expected one colour for each value, or --classes that says which of them are the "
                "classes: the colours ('#ff0000=car') or the values (1=car)"
            )
        keys = _found(counted, in_colours, named=False)
        unconfirmed = _suggested(keys)
        naming = Naming(tuple(Entry(key.key, key.name, "the masks") for key in unconfirmed))
    table = _Table(naming, in_colours, options, keys)
    notes += table.notes
    labelled = [
        Labelled(name.name, photo, mask, functools.partial(_draw, mask, table), name.split)
        for name, photo, mask in pairs
    ]
    return Opened(table.classes, labelled, table.palette, notes, unconfirmed)


def _pairs(place: Place, options: Options) -> tuple[list[tuple[Named, str, str]], list[str]]:
    """(name, photo, mask) of each sample, and what is to be said."""
    maskable = (*listing.MASKS, ".gif", *_JPEGS)
    if options.masks or options.images:
        given = {
            option: names.matching(place, pattern, option, suffixes)
            for option, pattern, suffixes in (
                ("--images", options.images, listing.PHOTOS),
                ("--masks", options.masks, maskable),
            )
            if pattern
        }
        taken = {path for found in given.values() for path in found.values()}
        photos = given.get("--images") or _others(place, taken, "--images", listing.PHOTOS, masks=False)
        masks = given.get("--masks") or _others(place, taken, "--masks", maskable, masks=True)
    else:
        photos, masks = _by_words(place, maskable)
    if not photos or not masks:
        missing, option = ("photos", "--images") if not photos else ("masks", "--masks")
        raise UserError(
            f"{place.root}: no {missing} were recognised by their names (its images: "
            f"{some(place.images, 3) or 'none'}); expected a pattern, such as {option} '{missing}/{{name}}.png'"
        )
    photos, masks = _without_needless_splits(photos, masks)
    notes = []
    for here, there, what, other in ((photos, masks, "photo", "mask"), (masks, photos, "mask", "photo")):
        alone = sorted(here.keys() - there.keys())
        if alone and (not options.skip_missing or len(alone) == len(here)):
            more = f"; the same holds for {len(alone)} of {len(here)} {what}s" if len(alone) > 1 else ""
            raise UserError(
                f"{here[alone[0]]} has no {other} of the name {alone[0].name}{more}; name the files by --images and "
                "--masks (such as --masks 'masks/{name}_mask.png'), or pass over what is alone with --skip_missing"
            )
        if alone:
            first = some((here[name] for name in alone), 1)
            notes.append(f"passed over: {counted(len(alone), what)} without a {other} ({first})")
    pairs = [(name, photos[name], masks[name]) for name in sorted(photos.keys() & masks.keys())]
    used = {path for _, photo, mask in pairs for path in (photo, mask)}
    left = [file for file in place.images if place.path(file) not in used]
    if left:
        notes.append(f"passed over: {counted(len(left), 'other image')} ({some(map(place.path, left), 1)})")
    return pairs, [f"{_short(place, pairs[0][1])} has the mask {_short(place, pairs[0][2])}, and so on", *notes]


def _short(place: Place, path: str) -> str:
    return str(pathlib.Path(path).relative_to(place.root)) if pathlib.Path(path).is_relative_to(place.root) else path


def _others(
    place: Place, taken: Collection[str], option: str, suffixes: Sequence[str], masks: bool
) -> dict[Named, str]:
    """Photos or masks by the words in their paths, without the files that a pattern names."""
    left = [file for file in place.images if place.path(file) not in taken and file.lower().endswith(tuple(suffixes))]
    found = [(names.understood(file), file) for file in left]
    return _once([(each.named, file) for each, file in found if each.is_mask == masks], place, option)


def _by_words(place: Place, maskable: Sequence[str]) -> tuple[dict[Named, str], dict[Named, str]]:
    """Photos and masks by the words in their paths; or photos as JPEG beside masks as PNG of the same names."""
    found = [(names.understood(file), file) for file in place.images if file.lower().endswith(listing.PHOTOS)]
    masks = [(each.named, file) for each, file in found if each.is_mask and file.lower().endswith(tuple(maskable))]
    photos = [(each.named, file) for each, file in found if not each.is_mask]
    if not masks:
        jpegs = {each.named for each, file in found if file.lower().endswith(_JPEGS)}
        pngs = {each.named for each, file in found if file.lower().endswith(listing.MASKS)}
        if jpegs and jpegs == pngs:
            masks = [(each.named, file) for each, file in found if file.lower().endswith(listing.MASKS)]
            photos = [(each.named, file) for each, file in found if file.lower().endswith(_JPEGS)]
    return _once(photos, place, "--images"), _once(masks, place, "--masks")


def _once(found: Iterable[tuple[Named, str]], place: Place, option: str) -> dict[Named, str]:
    named: dict[Named, str] = {}
    for name, file in found:
        if name in named:
            what = option.removeprefix("--")
            raise UserError(
                f"{named[name]} and {place.path(file)} are both {what} of the name {name.name}; say which are "
                f"wanted, such as {option} '{_pattern(file, name)}'"
            )
        named[name] = place.path(file)
    return named


def _pattern(file: str, name: Named) -> str:
    """A pattern that a path fits to."""
    base = name.name.split("/")[-1]
    return "{name}".join(listing.composed(file).rsplit(base, 1)) if base in listing.composed(file) else file


def _without_needless_splits(
    photos: dict[Named, str], masks: dict[Named, str]
) -> tuple[dict[Named, str], dict[Named, str]]:
    """Splits that only photos or only masks name go over to the others, where the names are enough to pair them."""
    sides = [photos, masks]
    has_split = [any(name.split for name in side) for side in sides]
    if has_split[0] == has_split[1]:
        return photos, masks
    known = sides[0] if has_split[0] else sides[1]
    split_of = {name.name: name.split for name in known}
    if len(split_of) < len(known):
        return photos, masks
    given = [{Named(name.name, split_of.get(name.name, "")): path for name, path in side.items()} for side in sides]
    return given[0], given[1]


class _Counts(NamedTuple):
    """How many pixels of a mask have each code.

    Attributes:
      file: of the mask.
      codes: values, or R * 65536 + G * 256 + B, int64.
      pixels: of each, int64.
      coloured: whether it has colours whose channels differ.
      palette: uint8 RGB [n, 3] where the codes are its indices.
    """

    file: str
    codes: np.ndarray
    pixels: np.ndarray
    coloured: bool
    palette: np.ndarray | None


def _grey(found: np.ndarray) -> bool:
    return found.ndim == 2 or bool((found == found[..., :1]).all())


def _codes(values: np.ndarray) -> np.ndarray:
    """int32 [H, W]: greys and indices as they are, also where they were saved as colours; RGB as one number."""
    if values.ndim == 2:
        return values.astype(np.int32)
    if _grey(values):
        return values[..., 0].astype(np.int32)
    return (values[..., 0].astype(np.int32) << 16) | (values[..., 1].astype(np.int32) << 8) | values[..., 2]


def _counts(file: str, found: images.Values, flat: np.ndarray) -> _Counts:
    # Masks have long runs, so there are few values to sort.
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    codes, places = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(places, weights=lengths, minlength=len(codes)).astype(np.int64)
    return _Counts(file, codes, pixels, not _grey(found.values), found.palette)


def _count(file: str, exact: bool) -> _Counts:
    found = images.read_values(file)
    one = _counts(file, found, _codes(found.values).ravel())
    if exact and len(one.codes) > _MOST_KEYS:
        raise UserError(
            f"{file} has {len(one.codes)} {'colours' if one.coloured else 'values'}; expected at most {_MOST_KEYS}, "
            f"one for each class: {_NOT_EXACT}"
        )
    return one


def _counted(files: Sequence[str], workers: int, exact: bool) -> list[_Counts]:
    """The codes of all masks, behind a progress bar."""
    found = []
    pool = ThreadPoolExecutor(workers)
    try:
        with Progress(len(files), unit="mask") as progress:
            for one in pool.map(functools.partial(_count, exact=exact), files):
                found.append(one)
                if progress.live or len(found) == len(files):
                    progress.update(len(found))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _in_colours(naming: Naming, options: Options) -> bool:
    """Whether the keys of a map are colours, or values."""
    colours = [entry for entry in naming.entries if entry.is_colour]
    values = [entry for entry in naming.entries if entry.is_value]
    others = [entry for entry in naming.entries if not entry.is_colour and not entry.is_value]
    if others:
        raise UserError(
            f"{others[0].where}: {others[0].key!r:.80} is neither a colour nor a value of a mask; expected "
            "#rrggbb, or a whole number"
        )
    if colours and values:
        raise UserError(
            f"{values[0].where}: a value, and {colours[0].where}: a colour; expected colours alone or values alone"
        )
    return bool(colours)


def _key_of(code: int, one: _Counts, in_colours: bool) -> str:
    """The key of a code of a mask."""
    colour = (code >> 16, code >> 8 & 255, code & 255)
    if not in_colours:
        if one.coloured and len(set(colour)) > 1:
            raise UserError(
                f"{one.file} has the colour {colour_key(colour)}, and --classes has values; expected a class for each "
                "colour, such as '#ff0000=car'"
            )
        return str(code & 255 if one.coloured else code)
    if one.coloured:
        return colour_key(colour)
    if one.palette is not None:
        return colour_key(one.palette[code].tolist() if code < len(one.palette) else (0, 0, 0))
    if code > 255:
        raise UserError(f"{one.file} has the value {code}, and --classes has colours; expected colours of 8 bits")
    return colour_key((code, code, code))


def _differing(counted: Sequence[_Counts]) -> str:
    """A value that has two colours in the palettes of the masks, in words; "" where there is none.

    Programs that save colours as a palette number them anew in each file.
    """
    first: dict[int, tuple[str, str]] = {}
    for one in counted:
        for code in one.codes.tolist() if one.palette is not None else ():
            colour = _key_of(code, one, in_colours=True)
            known, file = first.setdefault(code, (colour, one.file))
            if known != colour:
                return f"palettes differ: value {code} is {known} in {file} and {colour} in {one.file}"
    return ""


def _found(counted: Sequence[_Counts], in_colours: bool, named: bool) -> list[Key]:
    """The keys in all masks, the one with most pixels first."""
    pixels: collections.Counter[str] = collections.Counter()
    photos: collections.Counter[str] = collections.Counter()
    example: dict[str, tuple[float, str]] = {}
    for one in counted:
        here: collections.Counter[str] = collections.Counter()
        for code, count in zip(one.codes.tolist(), one.pixels.tolist(), strict=True):
            here[_key_of(code, one, in_colours)] += count
        for key, count in here.items():
            pixels[key] += count
            photos[key] += 1
            share = count / int(one.pixels.sum())
            if share > example.get(key, (0.0, ""))[0]:
                example[key] = (share, one.file)
        if not named and len(pixels) > _MOST_KEYS:
            raise UserError(
                f"{one.file} brings the {'colours' if in_colours else 'values'} of the masks to {len(pixels)}; "
                f"expected at most {_MOST_KEYS}, one for each class: {_NOT_EXACT}"
            )
    return [Key(key, "", count, photos[key], example[key][1]) for key, count in pixels.most_common()]


def _suggested(keys: Sequence[Key]) -> list[Key]:
    """The keys with names to begin with, in the order of colours or values."""
    found = {key.key for key in keys}
    names_of = {"#000000": "background", "0": "background"}
    if "255" in found:
        names_of["255"] = "object" if len(found) <= 2 else IGNORED
    if "#ffffff" in found and len(found) == 2:
        names_of["#ffffff"] = "object"

    def order(key: Key) -> tuple:
        return (int(key.key),) if key.key.isdecimal() else colour_of(key.key)

    return [
        key._replace(name=names_of.get(key.key, f"class_{key.key.removeprefix('#')}"))
        for key in sorted(keys, key=order)
    ]


def _released(name: str) -> Naming:
    """The colours of a published set as a map."""
    known = classes.with_colours()
    if name not in known:
        raise UserError(f"--palette {name}: expected one of {', '.join(known)}")
    table = classes.released(name)
    colours = zip(table.names, classes.colours(name).tolist(), strict=True)
    return Naming(tuple(Entry(colour_key(colour), label, f"--palette {name}") for label, colour in colours))


class _Table:
    """Which code of a mask is which id."""

    def __init__(self, naming: Naming, in_colours: bool, options: Options, keys: Sequence[Key]):
        """Makes the classes, and compares the map with the keys that the masks have.

        Args:
          naming: key -> class.
          in_colours: whether its keys are colours.
          options: of the user.
          keys: in the masks.

        Raises:
          UserError: the masks have a key that the map lacks, or there is no class.
        """
        self.in_colours = in_colours
        order = [entry.name for entry in naming.entries]
        self.notes: list[str] = []
        known, shared = naming.names(), naming.shared()
        unknown = sorted((key for key in keys if key.key not in known), key=lambda key: key.key not in shared)
        if unknown:
            self._others(unknown, naming, options, sum(key.pixels for key in keys))
            order.append(options.others)
        self.classes = classes_of(order, "--classes")
        self._ids = {key: self._id(name) for key, name in known.items()}
        self._other = self._id(options.others) if unknown else _UNKNOWN
        absent = [f"{e.key} ({e.name})" for e in naming.entries if e.key not in {key.key for key in keys}]
        if absent and not options.palette:
            self.notes.append(f"in --classes and in no mask: {some(absent, 8)}")
        self.palette = _palette(naming, self.classes) if in_colours else None

    def _id(self, name: str) -> int:
        return IGNORE if name == IGNORED else self.classes.index(name)

    def _others(self, unknown: Sequence[Key], naming: Naming, options: Options, total: int) -> None:
        first = unknown[0]
        what = "colour" if self.in_colours else "value"
        rest = f", and {counted(len(unknown) - 1, f'more {what}')}" if len(unknown) > 1 else ""
        share = 100 * first.pixels / total
        seen = f"in {counted(first.photos, 'mask')}, most in {first.example}"
        said = f"{what} {first.key} ({share:.2g} % of all pixels, {seen}){rest}"
        if not options.others:
            given = f"--palette {options.palette}" if options.palette else "--classes"
            if names_of := naming.shared().get(first.key):
                raise UserError(
                    f"{said}: the colour of {' and of '.join(names_of)} in {given}, so nobody can tell them apart; "
                    "expected masks of ids, or --others ignore"
                )
            raise UserError(
                f"{said}: not in {given}, whose nearest is {_nearest(first.key, naming)}; add it to --classes, or "
                "say what becomes of all others: --others ignore, or --others CLASS"
            )
        self.notes.append(f"{said}: {'ignored' if options.others == IGNORED else options.others} (--others)")

    def ids(self, file: str) -> np.ndarray:
        """The class ids of a mask, uint8 [H, W].

        Args:
          file: of the mask.
        """
        found = images.read_values(file)
        values = _codes(found.values)
        one = _counts(file, found, values.ravel())
        of_code = [self._ids.get(_key_of(code, one, self.in_colours), self._other) for code in one.codes.tolist()]
        return np.array(of_code, np.int16)[np.searchsorted(one.codes, values)].astype(np.uint8)


def _palette(naming: Naming, names_of: Sequence[str]) -> np.ndarray | None:
    """The colour of each class, the first that its name has; None where one has none."""
    first: dict[str, tuple[int, int, int]] = {}
    for entry in naming.entries:
        first.setdefault(entry.name, colour_of(entry.key))
    return np.array([first[name] for name in names_of], np.uint8) if all(name in first for name in names_of) else None


def _nearest(key: str, naming: Naming) -> str:
    """The key of a map that is nearest to another one, in words."""
    entries = naming.entries

    def distance(entry: Entry) -> float:
        if entry.is_colour:
            return float(np.linalg.norm(np.subtract(colour_of(entry.key), colour_of(key))))
        return abs(int(entry.key) - int(key))

    best = min(entries, key=distance)
    return f"{best.key} ({best.name}, {distance(best):.0f} away)"


def _draw(mask: str, table: _Table, photo: Photo) -> Drawn:
    return fitted(table.ids(mask), photo, mask, "the mask")


FORM = Form(
    summary="masks that are pictures: colours, palettes or values",
    signs="images with words such as mask or annotation in their names or folders",
    recognise=lambda place: bool(place.images),
    open=_open,
    last=True,
    takes=MASKS,
)
