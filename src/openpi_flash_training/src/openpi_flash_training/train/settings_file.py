"""Reads training settings from JSON and from options ``section.field=value``, and writes them.

A file holds the sections of :class:`TrainSettings`, each with the fields that differ, and perhaps
``base``: the name of a config to start from (``named.py``).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from openpi_flash_training.train.named import named_settings
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.settings import TrainSettings

T = TypeVar("T")
BASE = "base"
Tree = dict[str, Any]


def read_settings(path: Path) -> TrainSettings:
    """The settings of a JSON file.

    Raises:
        SettingsError: the file cannot be read, or a field is unknown or has a wrong value.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    return parse_settings(content, str(path))


def parse_settings(content: Any, source: str) -> TrainSettings:
    """The settings of a tree as JSON has it.

    Args:
        content: sections, and perhaps ``base``.
        source: what to call it in an error.

    Raises:
        SettingsError: a field is unknown (names the nearest) or has a wrong value.
    """
    if not isinstance(content, Mapping):
        raise SettingsError(f"{source}: expected an object with sections, got {_told(content)}")
    tree = dict(content)
    start = TrainSettings()
    if BASE in tree:
        base = tree.pop(BASE)
        if not isinstance(base, str):
            raise SettingsError(f"{source}: base: expected a name, got {_told(base)}")
        start = named_settings(base)
    try:
        return _replace(start, tree, "")
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None


def with_options(settings: TrainSettings, options: Sequence[str]) -> TrainSettings:
    """The settings with ``section.field=value`` applied; values are JSON, or text.

    Raises:
        SettingsError: an option is malformed, unknown, or has a wrong value.
    """
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or "." not in name:
            raise SettingsError(
                f"{option!r}: expected section.field=value, such as run.batch_size=16"
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        tree: Any = value
        for part in reversed(name.split(".")):
            tree = {part: tree}
        settings = _replace(settings, tree, "")
    return settings


def as_tree(settings: TrainSettings) -> Tree:
    """All fields, as JSON has them; :func:`parse_settings` reads it back to an equal value."""
    return typing.cast(Tree, json.loads(json.dumps(dataclasses.asdict(settings))))


def differences(one: TrainSettings, other: TrainSettings) -> dict[str, tuple[Any, Any]]:
    """Fields of two settings that differ, by their dotted names; sections are ``section.field``."""
    found = {}
    for section in dataclasses.fields(TrainSettings):
        a, b = getattr(one, section.name), getattr(other, section.name)
        for field in dataclasses.fields(a):
            pair = getattr(a, field.name), getattr(b, field.name)
            if pair[0] != pair[1]:
                found[f"{section.name}.{field.name}"] = pair
    return found


def _replace(start: T, tree: Mapping[str, Any], path: str) -> T:
    """A dataclass with the fields of a tree in place of its own."""
    hints = get_type_hints(type(start))
    known = {field.name for field in dataclasses.fields(typing.cast(Any, start))}
    changed = {}
    for name, value in tree.items():
        where = f"{path}{name}"
        if name not in known:
            raise SettingsError(f"{where}: there is no such setting, {_nearest(where, known)}")
        changed[name] = _parse(hints[name], getattr(start, name), value, where)
    try:
        return typing.cast(T, dataclasses.replace(typing.cast(Any, start), **changed))
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{path.rstrip('.')}: {error}") from None


def _parse(hint: Any, old: Any, value: Any, where: str) -> Any:
    """A value of a field's type, from JSON."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: expected an object, got {_told(value)}")
        start = old
        if start is None:
            start = _new(typing.cast(Any, hint), value, where)
        return _replace(start, value, f"{where}.")
    if origin is Literal:
        if value not in get_args(hint):
            known = ", ".join(map(str, get_args(hint)))
            raise SettingsError(f"{where}: is {value!r}, expected one of {known}")
        return value
    if origin is not None:
        return _parse_texts(issubclass(origin, Mapping), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise SettingsError(f"{where}: expected {_TYPE_NAMES[hint]}, got {_told(value)}")


def _parse_texts(by_name: bool, value: Any, where: str) -> Any:
    """A list of texts, or an object of texts."""
    items: list[Any] = [0]  # no text
    if by_name and isinstance(value, Mapping):
        items = [*value, *value.values()]
    elif not by_name and isinstance(value, list):
        items = value
    if not all(isinstance(item, str) for item in items):
        name = "an object" if by_name else "a list"
        raise SettingsError(f"{where}: expected {name} of texts, got {_told(value)}")
    return dict(value) if by_name else tuple(value)


def _new(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    """A dataclass in the place of None: its defaults, and what has none from the value."""
    hints = get_type_hints(kind)
    needed = {}
    for field in dataclasses.fields(kind):
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if not has_default:
            if field.name not in value:
                raise SettingsError(f"{where}.{field.name}: is missing")
            needed[field.name] = _parse(
                hints[field.name], None, value[field.name], f"{where}.{field.name}"
            )
    return kind(**needed)


def _nearest(where: str, known: set[str]) -> str:
    """What an unknown name was probably meant to be: a sibling, or a field elsewhere."""
    name = where.rpartition(".")[2]
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean {where.removesuffix(name)}{close[0]}?"
    everywhere = dict(_all_fields(TrainSettings, ""))
    close = difflib.get_close_matches(name, sorted(everywhere), n=1, cutoff=0.6)
    if close:
        return f"did you mean {everywhere[close[0]]}?"
    return f"known: {', '.join(sorted(known))}"


def _all_fields(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        where = f"{path}{field.name}"
        yield field.name, where
        for part in (hints[field.name], *get_args(hints[field.name])):
            if dataclasses.is_dataclass(part):
                yield from _all_fields(part, f"{where}.")


def _told(value: Any) -> str:
    return json.dumps(value, default=str)[:80]


_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
