"""The node's settings as a file may show them: no key, no password."""

from __future__ import annotations

import dataclasses
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
    values = dataclasses.asdict(settings)
    link = values["link"]
    link["api_key"] = SECRET_IS_SET if link["api_key"] else SECRET_IS_NOT_SET
    del link["session"]
    for name in ("host", "server"):
        link[name] = without_password(link[name])
    return values


def without_password(text: str) -> str:
    """The text with what stands before the `@` of an address replaced."""
    return _USER_INFO.sub("//(hidden)@", text)


_USER_INFO = re.compile(r"//[^/@\s]+@")
