"""The node's parameters: name, type, default, unit, range and text, once.

The descriptors that `ros2 param describe` shows, the checks, `NodeSettings` and the page
`docs/robot_parameters.md` all come from `PARAMETERS`; `table/` has them by subject.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from openpi_flash_robot.settings.parameter_kinds import (
    Parameter,
    ParameterError,
    ParameterValue,
)
from openpi_flash_robot.settings.table import chunks, controllers, observation, server, watching


def expand(given: Mapping[str, Any]) -> dict[str, Parameter]:
    """Every parameter that this node has, by full name, with the maps written out.

    Args:
        given: what the user set; decides which cameras and controllers there are.

    Raises:
        ParameterError: a list that names entries is not a list of names.
    """
    expanded: dict[str, Parameter] = {}
    for parameter in PARAMETERS:
        if not parameter.each_of:
            expanded[parameter.name] = parameter
            continue
        owner = _BY_NAME[parameter.each_of]
        entries = owner.parse(given.get(owner.name, owner.default))
        assert isinstance(entries, tuple)
        for entry in entries:
            expanded[parameter.named(str(entry))] = parameter
    return expanded


def parse_values(given: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Check what the user set and fill in the defaults.

    Raises:
        ParameterError: names every parameter that is unknown, or the first that is wrong.
    """
    expanded = expand(given)
    unknown = sorted(set(given) - set(expanded))
    if unknown:
        raise ParameterError(
            f"unknown parameter{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
            f"{_closest(unknown[0], list(expanded))}"
        )
    return {
        name: parameter.parse(given[name], name) if name in given else parameter.default
        for name, parameter in expanded.items()
    }


def _closest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; the closest known one is {matches[0]}" if matches else ""


PARAMETERS: tuple[Parameter, ...] = (
    *server.PARAMETERS,
    *observation.PARAMETERS,
    *chunks.PARAMETERS,
    *controllers.PARAMETERS,
    *watching.PARAMETERS,
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
