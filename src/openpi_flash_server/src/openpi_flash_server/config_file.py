"""From a JSON file and an environment to a `ServerConfig`, or to one list of what is wrong."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from openpi_flash_server.config import ServerConfig

ENVIRONMENT_PREFIX = "OPENPI_"
"""`OPENPI_HOST`, `OPENPI_ACTION__CHECKPOINT_DIR`; a name that is no field belongs to others."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration.

    Attributes:
        path: the field, such as `action_transport.quic_port`; empty for the whole.
        message: what is wrong with it.
        variable: the environment variable that set it, if one did.
    """

    path: str
    message: str
    variable: str | None = None

    def __str__(self) -> str:
        origin = f" (from {self.variable})" if self.variable else ""
        return f"{self.path}: {self.message}{origin}" if self.path else f"{self.message}{origin}"


class ConfigError(Exception):
    """The configuration cannot be used.

    Attributes:
        source: the file, as it was named.
        problems: everything that is wrong.
    """

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1 and not self.problems[0].path:
            return f"{self.source}: {self.problems[0]}"
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join(
            [f"{self.source}: {count}", *(f"  {problem}" for problem in self.problems)]
        )


@dataclass(frozen=True)
class Flag:
    """A value from the command line, which goes over the file and the environment.

    Attributes:
        path: the field.
        name: of the flag.
        value: for the field.
    """

    path: tuple[str, ...]
    name: str
    value: Any


def load_config(
    path: str | Path | None, environment: Mapping[str, str], flags: Sequence[Flag] = ()
) -> ServerConfig:
    """Reads the configuration at `path`, with the `OPENPI_*` variables of `environment` over it.

    Args:
        path: of the file; None: there is none.
        environment: variables.
        flags: go over both.

    Raises:
        ConfigError: lists every problem that was found.
    """
    if path is None:
        return parse_config("{}", environment, source="the command line", flags=flags)
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(source, (Problem("", "no such file"),)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(source, (Problem("", f"not UTF-8 text at byte {error.start}"),)) from None
    except OSError as error:
        raise ConfigError(
            source, (Problem("", (error.strerror or "unreadable").lower()),)
        ) from None
    return parse_config(text, environment, source=source, flags=flags, base=Path(path).parent)


def parse_config(
    text: str,
    environment: Mapping[str, str],
    *,
    source: str,
    flags: Sequence[Flag] = (),
    base: Path | None = None,
) -> ServerConfig:
    """As `load_config`, from the text of a file that messages call `source`, beside `base`."""
    values = _parse_object(text, source)
    if base is not None:
        _anchor_robot_files(values, base)
    variables = _apply_environment(values, environment)
    for flag in flags:
        _put(values, flag.path, flag.value)
        variables[flag.path] = flag.name
    try:
        return ServerConfig.model_validate(values)
    except ValidationError as error:
        problems = tuple(_translate(details, variables) for details in error.errors())
        raise ConfigError(source, problems) from None


def _parse_object(text: str, source: str) -> dict[str, Any]:
    repeated: list[str] = []

    def object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        repeated.extend(name for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        values = json.loads(text, object_pairs_hook=object_without_repeats)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        message = error.msg[:1].lower() + error.msg[1:]
        raise ConfigError(source, (Problem("", f"not JSON, {place}: {message}"),)) from None
    except RecursionError:
        raise ConfigError(
            source, (Problem("", "not JSON for a configuration: nested too deeply"),)
        ) from None
    if not isinstance(values, dict):
        kind = _json_kind(values)
        raise ConfigError(source, (Problem("", f"must hold a JSON object, got {kind}"),))
    if repeated:
        raise ConfigError(source, tuple(Problem(name, "given twice") for name in repeated))
    return values


def _apply_environment(
    values: dict[str, Any], environment: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """Puts the variables into `values`; returns which path each of them set."""
    variables: dict[tuple[str, ...], str] = {}
    # shorter names first, so that OPENPI_ACTION__X refines OPENPI_ACTION
    for variable in sorted(environment, key=lambda name: (name.count("__"), name)):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        path = tuple(variable[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        if path[0] not in ServerConfig.model_fields:
            continue
        _put(values, path, _parse_variable(environment[variable], path))
        variables[path] = variable
    return variables


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    parent = values
    for name in path[:-1]:
        below = parent.get(name)
        if not isinstance(below, dict):
            below = {}
            parent[name] = below
        parent = below
    parent[path[-1]] = value


def _anchor_robot_files(values: dict[str, Any], base: Path) -> None:
    """A relative path in a file is meant from there, wherever the server is started."""
    files = values.get("robot_files")
    if isinstance(files, list):
        values["robot_files"] = [
            str(base / Path(file).expanduser()) if isinstance(file, str) else file for file in files
        ]


def _parse_variable(text: str, path: tuple[str, ...]) -> Any:
    """A variable is text; where its field is not, it is read as JSON."""
    if str in _field_types(path):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _field_types(path: tuple[str, ...]) -> set[Any]:
    """The types that the field at `path` may have, without what annotates them."""
    model: type[BaseModel] = ServerConfig
    for name in path[:-1]:
        field = model.model_fields.get(name)
        if field is None:
            return set()
        models = [
            kind
            for kind in _alternatives(field.annotation)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not models:
            return set()
        model = models[0]
    field = model.model_fields.get(path[-1])
    return set() if field is None else _alternatives(field.annotation)


def _alternatives(annotation: Any) -> set[Any]:
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    if typing.get_origin(annotation) in {typing.Union, type(int | str)}:
        return set().union(*(_alternatives(kind) for kind in typing.get_args(annotation)))
    return {annotation}


def _translate(details: ErrorDetails, variables: Mapping[tuple[str, ...], str]) -> Problem:
    path = tuple(str(part) for part in details["loc"])
    context = details.get("ctx", {})
    kind = details["type"]
    if kind == "at_field":
        path = (*path, *str(context["field"]).split("."))
        message = str(context["message"])
    elif kind == "extra_forbidden":
        message = _unknown_key(path)
    elif kind in _MESSAGES:
        silent = kind == "missing" or _is_secret(path)
        got = "" if silent else f", got {_json_kind(details['input'])}"
        message = _MESSAGES[kind].format(**context) + got
    else:
        error = context.get("error")
        message = str(error) if error is not None else details["msg"]
    variable = next(
        (
            variables[path[:length]]
            for length in range(len(path), 0, -1)
            if path[:length] in variables
        ),
        None,
    )
    return Problem(".".join(path), message, variable)


def _unknown_key(path: tuple[str, ...]) -> str:
    known = _keys_at(path[:-1])
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
    return f"unknown key, {hint}"


def _keys_at(path: tuple[str, ...]) -> list[str]:
    models = (
        [ServerConfig]
        if not path
        else [
            kind
            for kind in _field_types(path)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
    )
    return list(models[0].model_fields) if models else []


def _is_secret(path: tuple[str, ...]) -> bool:
    return path[:1] == ("api_keys",)


def _json_kind(value: Any) -> str:
    """What a person calls the value: numbers and short text as they are, the rest by kind."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return f"{value!r}" if len(value) <= 60 else "text"
    return "a list" if isinstance(value, list) else "an object"


_MESSAGES = {
    "missing": "missing",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
"""pydantic's error types in our words; all but `missing` also say what was there instead."""
