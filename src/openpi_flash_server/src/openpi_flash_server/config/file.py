"""Reads a JSON file and an environment into a `ServerConfig`, or into a list of all problems."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from openpi_flash_server.config.fields import types_at
from openpi_flash_server.config.json_schema import SCHEMA_KEY
from openpi_flash_server.config.problems import ConfigError, Problem, got, in_words, problem_of
from openpi_flash_server.config.server_config import ServerConfig

ENVIRONMENT_PREFIX = "OPENPI_"
"""`OPENPI_HOST`, `OPENPI_ACTION__CHECKPOINT_DIR`; other programs use the prefix too."""
SINGLE_KEY, SEVERAL_KEYS = "OPENPI_API_KEY", "OPENPI_API_KEYS"
"""The variables for `api_keys`: one holds a plain key, the other a list of keys."""


@dataclass(frozen=True)
class Flag:
    """A value from the command line, which overrides the file and the environment.

    Attributes:
        path: the field.
        name: of the flag.
        value: of the field.
    """

    path: tuple[str, ...]
    name: str
    value: Any


def load_config(
    path: str | Path | None, environment: Mapping[str, str], flags: Sequence[Flag] = ()
) -> ServerConfig:
    """Reads the configuration at `path`; the `OPENPI_*` variables of `environment` override it.

    Args:
        path: of the file; None: there is none.
        environment: variables.
        flags: override both.

    Raises:
        ConfigError: lists every problem.
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
    """As `load_config`, from a file's text; messages call it `source`, paths start at `base`."""
    values = _parse_object(text, source)
    values.pop(SCHEMA_KEY, None)
    if base is not None:
        _anchor_robot_files(values, base)
    if SINGLE_KEY in environment and SEVERAL_KEYS in environment:
        problem = Problem("api_keys", f"set by {SINGLE_KEY} and by {SEVERAL_KEYS}, keep one")
        raise ConfigError(source, (problem,))
    variables = _apply_environment(values, environment)
    for flag in flags:
        _put(values, flag.path, flag.value)
        variables[flag.path] = flag.name
    try:
        config = ServerConfig.model_validate(values)
    except ValidationError as error:
        problems = tuple(problem_of(details, variables) for details in _causes(error.errors()))
        raise ConfigError(source, problems) from None
    config.remember_origins(variables)
    return config


_NAMED_BY_ROBOT_FILES = {("action", "model_config_name"), ("planner", "robot")}


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors, without unknown names that a broken robot file should define."""
    if all(error["loc"] != ("robot_files",) for error in errors):
        return errors
    return [
        error
        for error in errors
        if error["loc"] not in _NAMED_BY_ROBOT_FILES or error["type"] != "value_error"
    ]


def misspelt_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that look like misspelt settings, each with the likely name."""
    for variable in sorted(environment):
        first, *rest = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
        known = [field.upper() for field in ServerConfig.model_fields]
        is_setting = first in known or variable == SINGLE_KEY
        if not variable.startswith(ENVIRONMENT_PREFIX) or is_setting:
            continue
        for close in difflib.get_close_matches(first, known, n=1, cutoff=0.8):
            yield variable, ENVIRONMENT_PREFIX + "__".join([close, *rest])


class _Object(dict[str, Any]):
    """A JSON object that also keeps the earlier values of repeated names."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        last = {name: i for i, (name, _) in enumerate(pairs)}
        self.replaced = [pair for i, pair in enumerate(pairs) if i < last[pair[0]]]


def _parse_object(text: str, source: str) -> dict[str, Any]:
    try:
        values = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        message = error.msg[:1].lower() + error.msg[1:]
        raise ConfigError(source, (Problem("", f"not JSON, {place}: {message}"),)) from None
    except RecursionError:
        raise ConfigError(
            source, (Problem("", "not JSON for a configuration: nested too deeply"),)
        ) from None
    if not isinstance(values, _Object):
        message = f"must hold a JSON object, got {in_words(values)}"
        raise ConfigError(source, (Problem("", message),))
    repeated = tuple(_repeats(values))
    if repeated:
        raise ConfigError(source, repeated)
    return values


def _repeats(values: _Object) -> Iterator[Problem]:
    """Names that are given twice in one object; JSON would keep only the last value."""
    objects: list[tuple[tuple[str, ...], _Object]] = [((), values)]
    for path, found in objects:
        for name, before in found.replaced:
            field = (*path, name)
            values_were = got(field, before) and f"{got(field, before)} and {in_words(found[name])}"
            yield Problem(".".join(field), f"given twice, keep one{values_were}")
        objects += [
            ((*path, name), below) for name, below in found.items() if isinstance(below, _Object)
        ]


def _apply_environment(
    values: dict[str, Any], environment: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """Puts the variables into `values`; returns the path that each of them set."""
    variables: dict[tuple[str, ...], str] = {}
    # shorter names first, so that OPENPI_ACTION__X refines OPENPI_ACTION
    for variable in sorted(environment, key=lambda name: (name.count("__"), name)):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        path = tuple(variable[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        value: Any = environment[variable]
        if variable == SINGLE_KEY:
            # the plain text of one key, not JSON
            path, value = ("api_keys",), [value]
        elif path[0] in ServerConfig.model_fields:
            value = _parse_variable(value, path)
        else:
            continue
        _put(values, path, value)
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
    """Makes relative paths in a file relative to the file's directory."""
    files = values.get("robot_files")
    if isinstance(files, list):
        values["robot_files"] = [
            str(base / Path(file).expanduser()) if isinstance(file, str) else file for file in files
        ]


def _parse_variable(text: str, path: tuple[str, ...]) -> Any:
    """The value of a variable: text for a text field, else parsed as JSON."""
    if str in types_at(path):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
