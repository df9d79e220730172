"""JSON and text in files: written in one piece, read by one function that checks what it finds."""

import contextlib
import json
import math
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import files
from mdp_jax.storage.bucket_path import BucketPath

PARTIAL = ".partial"  # suffix of a file that is being written
_LARGEST = 2**63 - 1
_BEGINNING = 50  # characters of a file's name in that of its partial file, which have at most 200 bytes
_DIGITS = len(str(_LARGEST))

# What a JSON value has to be: a type (float: any number; object: anything); None for null; a tuple of forms, one of
# which it has; [form], a list of such values; {name: form}, an object with those names, where the name `str` stands
# for all others.
Form = Any

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    None: "null",
    dict: "an object",
    list: "a list",
}


def read_json(path: str | os.PathLike, expected: str, form: Form = object) -> Any:
    """The value in a JSON file.

    Args:
      path: of the file.
      expected: what the file should be, for errors.
      form: that the value has to have.

    Returns:
      The value; its numbers are finite, and whole ones fit into 64 bits.

    Raises:
      UserError: the file cannot be read, is no JSON, or holds something else; naming the file and the value.
    """
    return parse_json(files.read_bytes(path, expected), files.shown(path), expected, form)


def parse_json(data: bytes, where: str, expected: str, form: Form = object) -> Any:
    """As `read_json`, of what was read already.

    Args:
      data: the bytes of the file.
      where: what errors begin with.
      expected: what the file should be, for errors.
      form: that the value has to have.
    """
    try:
        value = json.loads(data, parse_constant=_no_number, parse_int=_whole, parse_float=_number)
    except RecursionError:
        raise UserError(f"{where}: not valid JSON (nested too deeply); expected {expected}") from None
    except ValueError as error:  # of the JSON, or of its encoding
        raise UserError(f"{where}: not valid JSON ({error}); expected {expected}") from None
    if wrong := _difference(value, form, ""):
        raise UserError(f"{where}: {wrong}, as in {expected}")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    if len(text) > _DIGITS + 1 or abs(int(text)) > _LARGEST:
        raise ValueError(f"a number of {len(text.lstrip('-'))} digits")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text:.20} is too large")
    return float(text)


def _difference(value: Any, form: Form, place: str) -> str:
    """What is not as in the form, in words; "" where nothing is."""
    if isinstance(form, tuple):
        found = [_difference(value, each, place) for each in form]
        if not all(found):
            return ""
        inside = [wrong for wrong, each in zip(found, form, strict=True) if isinstance(value, _outer(each))]
        return inside[0] if inside else _wrong(value, form, place)
    if form is object or (form is None and value is None):
        return ""
    if isinstance(form, Mapping | list):
        fits = isinstance(value, dict) if isinstance(form, Mapping) else isinstance(value, list)
        return _inside(value, form, place) if fits else _wrong(value, form, place)
    kinds = (int, float) if form is float else (form,)
    return "" if type(value) in kinds else _wrong(value, form, place)


def _outer(form: Form) -> type:
    """The type of a value of a form that is an object or a list; of other forms one that no value has."""
    if isinstance(form, list):
        return list
    return dict if isinstance(form, Mapping) else type(Ellipsis)


def _inside(value: Any, form: Mapping | list, place: str) -> str:
    """What is wrong within an object or a list."""
    if isinstance(form, list):
        parts = ((item, form[0], f"{place}[{number}]") for number, item in enumerate(value))
    else:
        missing = next((name for name in form if name is not str and name not in value), None)
        if missing is not None:
            return f"{_place(place)} has no {missing!r}; expected one"
        other = form.get(str, object)
        parts = ((item, form.get(name, other), f"{place}.{name}".lstrip(".")) for name, item in value.items())
    return next(filter(None, (_difference(*part) for part in parts)), "")


def _place(place: str) -> str:
    return place or "the value"


def _wrong(value: Any, form: Form, place: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    forms = form if isinstance(form, tuple) else (form,)
    words = [_WORDS[_kind(each)] for each in forms]
    return f"{_place(place)} is {text}; expected {' or '.join(words)}"


def _kind(form: Form) -> Any:
    if isinstance(form, Mapping):
        return dict
    return list if isinstance(form, list) else form


def write_json(path: pathlib.Path, values: Any) -> None:
    """`write_text` of values as JSON, which has no NaN and no infinite numbers: they become null."""
    write_text(path, json.dumps(_finite(values), indent=2, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_text(path: pathlib.Path, text: str) -> None:
    """`write_bytes` of text in UTF-8."""
    # A path with bytes that are no UTF-8 holds what UTF-8 has no form for; as an escape JSON reads it back.
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def partial_of(path: pathlib.Path) -> pathlib.Path:
    """The path of a file beside another one, which it becomes when it is whole; of each writer's own.

    Two commands may write a file at once: of one partial file they would make a mixture.

    Args:
      path: of this machine.
    """
    return path.with_name(f"{path.name[:_BEGINNING]}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file so that it is whole, or what it was before, whatever happens in between, a loss of power too.

    Raises:
      UserError: the file cannot be written.
    """
    if isinstance(path, BucketPath):
        path.write_bytes(content)
        return
    partial = partial_of(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            files.to_disk(file.fileno())
        partial.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise of_system(error, f"{files.shown(path)}: {reason}; expected a file that can be written") from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)
