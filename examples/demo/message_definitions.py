"""The text of a ROS message type with all it is made of, as MCAP's "ros2msg" encoding wants it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

SEPARATOR = "=" * 80

_SIZED = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
PRIMITIVES = _SIZED | {"bool", "byte", "char", "float32", "float64", "string", "wstring"}

_FIELD_TYPE = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")


class DefinitionNotFoundError(Exception):
    """A message type has no .msg file under any prefix."""


def message_definition(type_name: str, prefixes: Sequence[Path]) -> str:
    """Return the definition of a type followed by those of every type below it.

    Args:
      type_name: such as "sensor_msgs/msg/Image".
      prefixes: where packages are installed, as in AMENT_PREFIX_PATH.

    Raises:
      DefinitionNotFoundError: names the type and where it was looked for.
    """
    top = _normal(type_name, package="")
    texts = {top: _read(top, prefixes)}
    waiting = [top]
    while waiting:
        current = waiting.pop(0)
        for used in _types_in(texts[current], package=current.split("/")[0]):
            if used not in texts:
                texts[used] = _read(used, prefixes)
                waiting.append(used)
    parts = [texts.pop(top)]
    parts += [f"{SEPARATOR}\nMSG: {name}\n{text}" for name, text in texts.items()]
    return "\n".join(parts)


def _types_in(text: str, package: str) -> list[str]:
    names = []
    for line in text.splitlines():
        match = _FIELD_TYPE.match(line.split("#")[0])
        if match and match[1] not in PRIMITIVES:
            names.append(_normal(match[1], package))
    return names


def _normal(name: str, package: str) -> str:
    """Return "package/Type" for any of the ways to write it."""
    parts = [part for part in name.split("/") if part != "msg"]
    if parts == ["Header"]:
        return "std_msgs/Header"
    return "/".join(parts) if len(parts) > 1 else f"{package}/{parts[0]}"


def _read(name: str, prefixes: Sequence[Path]) -> str:
    package, message = name.split("/")
    for prefix in prefixes:
        path = prefix / "share" / package / "msg" / f"{message}.msg"
        if path.is_file():
            return path.read_text()
    looked = ", ".join(map(str, prefixes)) or "nowhere: AMENT_PREFIX_PATH is empty"
    raise DefinitionNotFoundError(f"no definition of the message {name} (looked in {looked})")
