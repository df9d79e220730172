"""Which key of the annotations (a colour, a value of a mask, a label) is which class."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence

from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError

_EXPECTED = "#rrggbb NAME, R G B NAME, NAME,R,G,B, VALUE NAME or LABEL=NAME on each line"
_BYTE = r"(\d{1,3})"
_HEX = re.compile("#[0-9a-fA-F]{6}")
_VALUE = re.compile("[0-9]{1,9}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key and its class.

    Attributes:
      key: as it is in the annotations; a colour is "#rrggbb" in small letters.
      name: of the class.
      where: "FILE line N" or "--classes WORD", for errors.
    """

    key: str
    name: str
    where: str

    @property
    def is_colour(self) -> bool:
        """Whether the key is a colour."""
        return bool(_HEX.fullmatch(self.key))

    @property
    def is_value(self) -> bool:
        """Whether the key is a value of masks."""
        return bool(_VALUE.fullmatch(self.key))


@dataclasses.dataclass(frozen=True)
class Naming:
    """Keys and their classes, in order; the order of the names is that of the ids.

    Attributes:
      entries: each key once, but for colours that two classes of a published set share.
    """

    entries: Sequence[Entry] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def names(self) -> dict[str, str]:
        """Key -> name of its class, without the keys of several classes."""
        return {key: names[0] for key, names in self._all_names().items() if len(names) == 1}

    def shared(self) -> dict[str, list[str]]:
        """Key -> names of its classes, where it has several."""
        return {key: names for key, names in self._all_names().items() if len(names) > 1}

    def _all_names(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for entry in self.entries:
            found.setdefault(entry.key, []).append(entry.name)
        return found

    def as_text(self) -> list[str]:
        """Lines that mean the same, for a manifest."""
        return [f"{entry.key}={entry.name}" for entry in self.entries]


def colour_key(colour: Sequence[int]) -> str:
    """A colour as a key.

    Args:
      colour: R, G, B from 0 to 255.
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def colour_in(value: object) -> tuple[int, int, int] | None:
    """The colour that a file states, such as that of a class in a tool; None where it is no #rrggbb.

    Args:
      value: anything.
    """
    text = value.strip() if isinstance(value, str) else ""
    return colour_of(text) if _HEX.fullmatch(text) else None


def colour_of(key: str) -> tuple[int, int, int]:
    """The colour of a key that is one.

    Args:
      key: "#rrggbb".
    """
    red, green, blue = bytes.fromhex(key[1:])
    return red, green, blue


# The lines that people's files of classes have, and (key, name) of what is found.
_LINES: tuple[tuple[re.Pattern, Callable[[re.Match], tuple[str, str]]], ...] = (
    (re.compile(rf"({_HEX.pattern})[\s,;:=]+(\S.*)"), lambda m: (m[1].lower(), m[2])),
    (re.compile(rf"{_BYTE}[\s,;]+{_BYTE}[\s,;]+{_BYTE}[\s,;:=]+(\S.*)"), lambda m: (_rgb(m, 1), m[4])),
    (re.compile(rf"([^#].*?)\s*:\s*{_BYTE},{_BYTE},{_BYTE}:[^:]*:[^:]*"), lambda m: (_rgb(m, 2), m[1])),  # of CVAT
    (re.compile(rf"([^#].*?)\s*[,;\t]\s*{_BYTE}\s*[,;\t]\s*{_BYTE}\s*[,;\t]\s*{_BYTE}"), lambda m: (_rgb(m, 2), m[1])),
    (re.compile(r"(\d{1,5})[\s,;:]+([^\s=][^=]*)"), lambda m: (_normal(m[1]), m[2])),
    (re.compile(r"([^#=]+)=(.+)"), lambda m: (_normal(m[1].strip()), m[2])),
)
_HEADING = re.compile(r"\w+\s*[,;\t]\s*r(ed)?\s*[,;\t]\s*g(reen)?\s*[,;\t]\s*b(lue)?", re.I)


def _normal(key: str) -> str:
    """A key of which there is one way of writing: colours in small letters, values without zeros before them."""
    return key.lower() if _HEX.fullmatch(key) else str(int(key)) if _VALUE.fullmatch(key) else key


def _rgb(match: re.Match, first: int) -> str:
    values = [int(match[first + channel]) for channel in range(3)]
    if max(values) > 255:
        raise ValueError(f"{max(values)} in a colour; expected R, G and B from 0 to 255")
    return colour_key(values)


def read(words: Sequence[str]) -> Naming:
    """Reads what --classes was given.

    Args:
      words: each KEY=NAME, or a file of such lines in any of the forms that people have.

    Returns:
      The keys and their classes.

    Raises:
      UserError: a word or a line is something else, or a key is there twice.
    """
    entries: list[Entry] = []
    for word in words:
        if os.path.exists(word):
            entries += _of_file(pathlib.Path(word))
            continue
        where = f"--classes {word}"
        if "=" not in word:
            raise UserError(
                f"{where}: no such file, and not KEY=NAME; expected a file of classes, or pairs such as '#ff0000=car'"
            )
        key, _, name = (part.strip() for part in word.partition("="))
        if not key or not name:
            raise UserError(f"{where}: expected KEY=NAME, such as '#ff0000=car' or 255=road")
        entries.append(Entry(_normal(key), " ".join(name.split()), where))  # a line of classes.txt
    seen: dict[str, Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.key, entry)
        if first is not entry:
            what = "colour" if entry.is_colour else "value" if entry.is_value else "label"
            raise UserError(
                f"{entry.where}: {what} {entry.key} is class {entry.name!r}, and class {first.name!r} in "
                f"{first.where}; expected one class for each {what}"
            )
    return Naming(tuple(entries))


def _of_file(path: pathlib.Path) -> list[Entry]:
    entries = []
    for number, line in enumerate(listing.lines(path, _EXPECTED), start=1):
        if not line or _HEADING.fullmatch(line) or (line.startswith("#") and not _HEX.match(line)):
            continue
        where = f"{path} line {number}"
        try:
            found = _parsed(line)
        except ValueError as error:
            raise UserError(f"{where} is {line!r:.80}, with {error}") from None
        if found is None:
            raise UserError(f"{where} is {line!r:.80}; expected {_EXPECTED}")
        entries.append(Entry(*found, where))
    if not entries:
        raise UserError(f"{path} names no class; expected {_EXPECTED}")
    return entries


def _parsed(line: str) -> tuple[str, str] | None:
    for pattern, take in _LINES:
        if match := pattern.fullmatch(line):
            key, name = take(match)
            return key, name.strip()
    return None
