"""The node's settings as a file may show them: no key, no password."""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import Any

from openpi_flash_robot.settings.node_settings import (
    SECRET_IS_NOT_SET,
    SECRET_IS_SET,
    NodeSettings,
)


def public_settings(settings: NodeSettings) -> dict[str, Any]:
    """Every setting by name, nested as in `NodeSettings`, in forms that JSON has.

    The API key reads `set` or `not set`, the session's name is left out, and a password in the
    server's address is replaced.
    """
    values: dict[str, Any] = _by_words(dataclasses.asdict(settings))
    link = values["link"]
    link["api_key"] = SECRET_IS_SET if link["api_key"] else SECRET_IS_NOT_SET
    del link["session"]
    for name in ("host", "server"):
        link[name] = without_password(link[name])
    return values


def _by_words(value: Any) -> Any:
    """The same with the words of the parameters for what is one of several kinds."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _by_words(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_by_words(item) for item in value]
    return value


def without_password(text: str) -> str:
    """The text with what stands before the `@` of an address replaced."""
    return _USER_INFO.sub("//(hidden)@", text)


_USER_INFO = re.compile(r"//[^/@\s]+@")
