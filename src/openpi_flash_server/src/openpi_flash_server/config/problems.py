"""Error messages about a configuration: the field, what it must be, what it is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from openpi_flash_server.config.fields import field_at, keys_at

LONGEST_VALUE = 60
"""Characters of a value that a message shows."""


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


def problem_of(details: ErrorDetails, variables: Mapping[tuple[str, ...], str]) -> Problem:
    """One of pydantic's errors in our words.

    Args:
        details: pydantic's description.
        variables: the path that each environment variable set.
    """
    path = tuple(str(part) for part in details["loc"])
    context = details.get("ctx", {})
    kind = details["type"]
    if kind == "at_field":
        path = (*path, *str(context["field"]).split("."))
        message = str(context["message"])
    elif kind == "extra_forbidden":
        message = _unknown_key(path)
    elif kind == "missing":
        field = field_at(path)
        assert field is not None
        message = f"missing, set it to {field.description}"
    elif kind == "value_error":
        # a check of ours: its message shows the value already
        message = str(context["error"])
    else:
        text = _MESSAGES.get(kind)
        must_be = details["msg"] if text is None else text.format(**context)
        message = f"{must_be}{got(path, details['input'])}"
    variable = next(
        (
            variables[path[:length]]
            for length in range(len(path), 0, -1)
            if path[:length] in variables
        ),
        None,
    )
    return Problem(".".join(path), message, variable)


def got(path: tuple[str, ...], value: Any) -> str:
    """The end of a message about the value at `path`."""
    return "" if _is_secret(path) else f", got {in_words(value)}"


def in_words(value: Any) -> str:
    """A value as it stands in the file, shortened if it is long."""
    if isinstance(value, list | dict) and _holds_secret(value):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"


def _is_secret(path: tuple[str, ...]) -> bool:
    """Whether the value at `path` is, or is meant to be, a key."""
    return any(name.lower().startswith("api_key") for name in path)


def _holds_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_secret((name,)) or _holds_secret(below) for name, below in value.items())
    return isinstance(value, list) and any(map(_holds_secret, value))


def _unknown_key(path: tuple[str, ...]) -> str:
    known = keys_at(path[:-1])
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
    return f"unknown key, {hint}"


_MESSAGES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "tuple_type": "must be a list in brackets",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
"""pydantic's error types in our words; the actual value follows."""
