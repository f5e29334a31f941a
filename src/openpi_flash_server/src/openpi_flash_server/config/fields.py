"""The configuration's fields by their paths, with types and descriptions."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from openpi_flash_server.config.server_config import ServerConfig


def all_fields(
    model: type[BaseModel] = ServerConfig, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every field that holds a value, with its path, in the order of the file."""
    for name, field in model.model_fields.items():
        nested = _nested_model(field)
        if nested is None:
            yield (*above, name), field
        else:
            yield from all_fields(nested, (*above, name))


def is_live(field: FieldInfo) -> bool:
    """Whether a change of the field takes effect without loading a model or opening a port."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("live") is True


def field_at(path: Sequence[str]) -> FieldInfo | None:
    """The field of a path, or None if there is none."""
    model = _model_at(path[:-1])
    return None if model is None else model.model_fields.get(path[-1])


def types_at(path: Sequence[str]) -> set[Any]:
    """The types that the field at `path` may have, without annotations."""
    field = field_at(path)
    return set() if field is None else _alternatives(field.annotation)


def keys_at(path: Sequence[str]) -> list[str]:
    """The names that the object at `path` may hold."""
    model = _model_at(path)
    return [] if model is None else list(model.model_fields)


def _model_at(path: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = ServerConfig
    for name in path:
        field = None if model is None else model.model_fields.get(name)
        model = None if field is None else _nested_model(field)
    return model


def _nested_model(field: FieldInfo) -> type[BaseModel] | None:
    for kind in _alternatives(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _alternatives(annotation: Any) -> set[Any]:
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    if typing.get_origin(annotation) in {typing.Union, type(int | str)}:
        return set().union(*(_alternatives(kind) for kind in typing.get_args(annotation)))
    return {annotation}
