"""Frozen dataclasses as the schema of configs: which keys there are, of which types, and which of them came later."""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from mdp_jax.errors import UserError

LARGEST = 2**63 - 1  # of whole numbers, in JAX and NumPy too


def key(default: Any = dataclasses.MISSING, **facts: Any) -> Any:
    """Declares a config key that has facts besides its type and its default.

    Args:
      default: the value where a config does not set the key. Without a default every config must set it.
      **facts: `before`: the key came in a later version; with this value a run is what it was before the key came.
        `free=True`: the key may differ when a run goes on, and does not change what a run computes.
        `place=True`: the key says where files lie, and may differ when a run goes on.

    Returns:
      A dataclass field.

    Raises:
      TypeError: a fact has another name.
    """
    unknown = facts.keys() - {"before", "free", "place"}
    if unknown:
        raise TypeError(f"key() has no argument {min(unknown)!r}")
    return dataclasses.field(default=default, metadata=facts)


def as_config_dict(part: Any) -> ConfigDict:
    """Gives a typed config the form that users change.

    Args:
      part: a typed config, or one part of it.

    Returns:
      An unlocked ConfigDict. A group that is None becomes an empty ConfigDict.
    """
    schema: type = type(part)
    hints = _hints(schema)
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return ConfigDict(
        {
            name: ConfigDict() if value is None and _group(hints[name]) else _untyped(value)
            for name, value in values.items()
        }
    )


def _untyped(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_config_dict(value)
    return tuple(_untyped(item) for item in value) if isinstance(value, tuple) else value


def plain(value: Any) -> Any:
    """Gives a value the form that it has in JSON.

    Args:
      value: a config in either form, or a value of one.

    Returns:
      Dicts, lists and scalars.
    """
    if dataclasses.is_dataclass(value):
        value = as_config_dict(value)
    if isinstance(value, ConfigDict):
        return {name: plain(value[name]) for name in value}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def shown(value: Any) -> str:
    """A value of a config as messages show it: one line of at most 80 characters."""
    try:
        text = repr(plain(value) if isinstance(value, ConfigDict) else value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Finds the dotted key that is most like one that does not exist.

    The last part counts most. A key that abbreviates the given one (`lr` for `learning_rate`), or is a word of it,
    comes before a key that is only spelt alike.

    Args:
      name: the key that does not exist.
      names: the keys that exist.

    Returns:
      A list of one key; an empty list where `names` is empty.
    """
    *group, last = name.rsplit(".", 1)

    def score(candidate: str) -> float:
        *parents, own = candidate.rsplit(".", 1)
        words = last.lower().split("_")
        alike = difflib.SequenceMatcher(None, last, own).ratio()
        if own == "".join(word[:1] for word in words):
            alike = max(alike, 0.9)
        elif own in words:
            alike = max(alike, 0.85)
        place = difflib.SequenceMatcher(None, "".join(group), "".join(parents)).ratio()
        return alike + 0.4 * place

    return sorted(names, key=score, reverse=True)[:1]


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema)


@functools.cache
def _group(hint: Any) -> type | None:
    """The dataclass of a key that is a group of keys; None of others."""
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in hint.__args__ if kind is not type(None))
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


@functools.cache
def _item_group(hint: Any) -> type | None:
    """The dataclass of the items of a key that is a tuple of groups; None of others."""
    return _group(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else None


def _variant(schema: type, values: Mapping, where: str, name: str) -> type:
    """The dataclass of a group: its own values choose it where `schema` has a method `variant`."""
    return schema.variant(values, where, name) if hasattr(schema, "variant") else schema


def _item_name(name: str, item: Mapping, number: int) -> str:
    own = item.get("name")
    return f"{name}.{own if isinstance(own, str) else number}"


def complete(schema: type, node: ConfigDict, where: str, prefix: str = "") -> None:
    """Gives a config, in place, the keys that came after it was written, with their values "as before".

    Args:
      schema: the dataclass.
      node: an unlocked config, or one part of it.
      where: what errors begin with, up to the dotted key, such as "config." or "run/config.json: ".
      prefix: dotted name of that part, with a dot at its end.

    Raises:
      UserError: a key is missing that every version had, or one is there that this version does not have.
    """
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for name in node:
        if name not in fields:
            near = "".join(f"; the nearest is {prefix}{found}" for found in nearest(name, fields))
            raise UserError(
                f"{where}{prefix}{name} is no key of this version of mdp_jax: of a newer version, or misspelt{near}"
            )
    for name, field in fields.items():
        if name not in node:
            if "before" not in field.metadata:
                expected = "expected a complete config of a run, or what mdp_jax.configs makes"
                raise UserError(f"{where}no {prefix}{name} in it; {expected}")
            node[name] = _untyped(field.metadata["before"])
            continue
        hint, value = _hints(schema)[name], node[name]
        if isinstance(value, ConfigDict) and len(value) and (group := _group(hint)):
            full = f"{prefix}{name}"
            complete(_variant(group, value, where, full), value, where, f"{full}.")
        elif isinstance(value, tuple | list) and (group := _item_group(hint)):
            for number, item in enumerate(value):
                if isinstance(item, ConfigDict):
                    full = _item_name(f"{prefix}{name}", item, number)
                    complete(_variant(group, item, where, full), item, where, f"{full}.")


def make(schema: type, values: Mapping | ConfigDict, where: str, prefix: str = "") -> Any:
    """Makes the typed form of a complete config, or of one part of it.

    Args:
      schema: the dataclass.
      values: {name of a key: value}, lists or tuples for tuples, ConfigDicts or dicts for groups.
      where: what errors begin with, up to the dotted key, such as "config." or "run/config.json: ".
      prefix: dotted name of that part, with a dot at its end.

    Returns:
      An instance of `schema`.

    Raises:
      UserError: a key is missing or unknown, or a value has another type. The message names it.
    """
    fields, hints = dataclasses.fields(schema), _hints(schema)
    names = [field.name for field in fields]
    for name in (*values, *names):
        if name not in names or name not in values:
            state = "no such key" if name in values else "missing"
            near = nearest(name, names) if name in values else []
            more = "".join(f"; the nearest is {prefix}{found}" for found in near)
            raise UserError(f"{where}{prefix}{name}: {state}{more}")
    return schema(**{name: _typed(hints[name], values[name], where, f"{prefix}{name}") for name in names})


def _wrong(where: str, name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{where}{name}={shown(value)}: expected {expected}")


def _typed(hint: Any, value: Any, where: str, name: str) -> Any:
    """`value` as one of the type `hint`."""
    if group := _group(hint):
        if hint is not group and (value is None or (isinstance(value, Mapping | ConfigDict) and not len(value))):
            return None
        if not isinstance(value, Mapping | ConfigDict):
            raise _wrong(where, name, value, "a group of values")
        return make(_variant(group, value, where, name), value, where, f"{name}.")
    if hint is tuple or typing.get_origin(hint) is tuple:
        return _tuple(hint, value, where, name)
    if hint is float and type(value) is int and abs(value) <= LARGEST:
        value = float(value)
    if type(value) is not hint:
        raise _wrong(where, name, value, _NAMES[hint])
    if hint is float and not math.isfinite(value):
        raise _wrong(where, name, value, "a finite number")
    if hint is int and abs(value) > LARGEST:
        raise _wrong(where, name, value, "a whole number of at most 18 digits")
    if hint is str and "\0" in value:
        raise _wrong(where, name, value, "text without the character NUL")
    return value


_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def _tuple(hint: Any, value: Any, where: str, name: str) -> tuple:
    kinds = typing.get_args(hint)
    endless = len(kinds) == 2 and kinds[1] is Ellipsis
    item = kinds[0] if kinds else None
    if not isinstance(value, tuple | list):
        if item and _group(item) and isinstance(value, Mapping | ConfigDict):
            raise UserError(
                f"{where}{name}: one dataset where a tuple of datasets is expected; write a comma behind it, as in "
                f"{name} = (dataset,)"
            )
        noun = _NAMES.get(item, "values")
        example = f"; write {name} = ({value!r:.60},), with a comma" if type(value) is item else ""
        raise _wrong(where, name, value, f"a tuple{f' of {noun}s'.replace('texts', 'text') if item else ''}{example}")
    if not kinds:
        return tuple(tuple(part) if isinstance(part, list) else part for part in value)
    if not endless and len(value) != len(kinds):
        raise _wrong(where, name, tuple(value), f"{len(kinds)} values")
    found = []
    for number, part in enumerate(value):
        inner = part if isinstance(part, Mapping | ConfigDict) else {}
        full = _item_name(name, inner, number) if _group(item) else f"{name}[{number}]"
        found.append(_typed(item if endless else kinds[number], part, where, full))
    return tuple(found)


def flat(
    schema: type, values: dict, without: Collection[str] = (), all_keys: bool = True, prefix: str = ""
) -> dict[str, Any]:
    """Gives a complete config as one flat dict.

    Args:
      schema: the dataclass.
      values: the plain form of the config, or of one part of it.
      without: facts, "free" or "place"; keys that are declared with one of them are left out.
      all_keys: whether keys that have their values "as before" are included.
      prefix: dotted name of that part, with a dot at its end.

    Returns:
      {dotted key: value}. In the dotted key, an item of a tuple of groups has its `name`.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(schema):
        facts, name = field.metadata, f"{prefix}{field.name}"
        value, hint = values[field.name], _hints(schema)[field.name]
        if any(facts.get(fact) for fact in without):
            continue
        if not all_keys and "before" in facts and value == plain(_untyped(facts["before"])):
            continue
        if group := _group(hint):
            inside = [(name, value)] if value else []
        elif (group := _item_group(hint)) and value:
            inside = [(_item_name(name, item, number), item) for number, item in enumerate(value)]
        else:
            found[name] = value
            continue
        for full, item in inside:
            found |= flat(_variant(group, item, "", full), item, without, all_keys, f"{full}.")
    return found
