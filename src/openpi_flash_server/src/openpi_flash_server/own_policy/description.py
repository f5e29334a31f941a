"""Reads what a policy says of itself: `metadata`, in the words of docs/protocol.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flash_transport import CodecError, packb
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.policy.policy_protocol import ImageSpec, PolicySpec
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.robot_input import RobotInput
from openpi_flash_server.contract.inputs import parse_inputs
from openpi_flash_server.own_policy.errors import PolicyLoadError


def spec_of(metadata: Any, name: str) -> PolicySpec:
    """What clients are told of a policy. What it does not say stays unknown.

    Args:
        metadata: a map, or a function that returns one; None: it says nothing.
        name: of the policy, for clients and messages.

    Raises:
        PolicyLoadError: names the entry that cannot be used.
    """
    try:
        said = metadata() if callable(metadata) else metadata
    except Exception as error:
        raise PolicyLoadError(f"its metadata raised {type(error).__name__}: {error}") from error
    said = {} if said is None else said
    if not isinstance(said, Mapping) or not all(isinstance(key, str) for key in said):
        raise PolicyLoadError("its metadata is no map with text as keys")
    try:
        packb(dict(said))
    except CodecError as error:
        raise PolicyLoadError(f"its metadata cannot be sent: {error}") from None
    try:
        return _spec(dict(said), name)
    except (InferenceConfigError, TypeError, ValueError) as error:
        raise PolicyLoadError(f"its metadata: {error}") from None


def _spec(said: dict[str, Any], name: str) -> PolicySpec:
    inputs = said.pop("inputs", None)
    read = None if inputs is None else parse_inputs(inputs)
    columns = _maps(said.pop("actions", None) or [], "actions")
    actions = tuple(ActionColumn(**column) for column in columns)
    horizon = _count(said, "action_horizon")
    width = _count(said, "action_dim") or len(actions)
    if actions and width != len(actions):
        raise ValueError(f"action_dim is {width}, and actions has {len(actions)} entries")
    images = [given for given in read or () if given.kind == "image"]
    return PolicySpec(
        model=str(said.pop("model", name)),
        robot=str(said.pop("robot", "")),
        action_horizon=horizon,
        action_dim=width,
        action_rate_hz=float(said.pop("action_rate_hz", 0.0)),
        actions=actions,
        image_specs=tuple(ImageSpec(given.path, _image_shape(given)) for given in images),
        metadata=said,
        supports=tuple(map(str, said.pop("supports", ()))),
        inputs=read,
    )


def _image_shape(given: RobotInput) -> tuple[int, int, int]:
    first, second, third = given.shape
    return first, second, third


def _maps(value: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(value, list | tuple) or not all(isinstance(e, Mapping) for e in value):
        raise ValueError(f"{key} is no list of maps")
    return [dict(entry) for entry in value]


def _count(said: dict[str, Any], key: str) -> int:
    value = said.pop(key, 0)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a whole number above 0")
    return value
