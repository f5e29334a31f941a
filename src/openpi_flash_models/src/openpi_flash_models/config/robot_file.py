"""Reads a user's own robots and configs from a YAML or a Python file.

YAML is enough for a robot whose joints the model reads unchanged or scaled; a robot that needs a
formula takes a Python file (``ROBOTS`` and ``CONFIGS``, of the same types as ours).
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from openpi_flash_models import robots
from openpi_flash_models.config import named_configs
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import MODEL_NAMES
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.linear import Linear
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput
from openpi_flash_models.transforms.delta import delta_mask

_MOST_NUMBERS = 4096
"""Of one part of the state, and one run of relative actions: a hand full of touch sensors has
hundreds."""
_PROMPT_SLOTS = {"pi0": 48, "pi05": 200, "pi0_fast": 250}
_added: dict[Path, RobotFile] = {}


@dataclass(frozen=True)
class RobotFile:
    """What a file defines."""

    robots: tuple[Robot, ...]
    configs: tuple[InferenceConfig, ...]


def add_robot_file(path: Path) -> RobotFile:
    """Read a file, and add what it defines to the registries; once per file.

    Raises:
        InferenceConfigError: it cannot be used; names the entry at fault.
    """
    path = path.expanduser().resolve()
    if path in _added:
        return _added[path]
    found = read_robot_file(path)
    for robot in found.robots:
        if robots.ROBOTS.get(robot.name, robot) is not robot:
            raise InferenceConfigError(f"{path}: there is a robot named {robot.name!r} already")
    for config in found.configs:
        if named_configs.CONFIGS.get(config.name, config) is not config:
            raise InferenceConfigError(f"{path}: there is a config named {config.name!r} already")
    for robot in found.robots:
        robots.register(robot)
    for config in found.configs:
        named_configs.register(config)
    _added[path] = found
    return found


def added_robot_files() -> tuple[Path, ...]:
    """The files that were added to the registries, in order."""
    return tuple(_added)


def read_robot_file(path: Path) -> RobotFile:
    """Read a file; the registries stay as they are.

    Raises:
        InferenceConfigError: it cannot be used; names the entry at fault.
    """
    if path.suffix == ".py":
        return _read_python(path)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InferenceConfigError(f"cannot read {path}: {error.strerror}") from error
    # besides its own error, the parser raises those of int(), date() and deep nesting
    except Exception as error:
        raise InferenceConfigError(f"{path} is not YAML: {_told(error)}") from error
    reader = _Reader(str(path))
    top = reader.mapping(content, "the file", {"robots", "configs"})
    own = {}
    for i, entry in enumerate(reader.sequence(top.get("robots", []), "robots")):
        robot = _robot(reader, entry, f"robots[{i}]")
        if robot.name in own:
            raise reader.fail(f"robots[{i}]", f"there is a robot named {robot.name!r} already")
        own[robot.name] = robot
    found = [
        _config(reader, entry, f"configs[{i}]", own)
        for i, entry in enumerate(reader.sequence(top.get("configs", []), "configs"))
    ]
    if not own and not found:
        raise InferenceConfigError(f"{path} defines neither robots nor configs")
    return RobotFile(tuple(own.values()), tuple(found))


def _read_python(path: Path) -> RobotFile:
    name = f"openpi_flash_robot_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InferenceConfigError(f"cannot read {path}: no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise InferenceConfigError(f"{path} cannot be run: {_told(error)}") from error
    own, found = tuple(getattr(module, "ROBOTS", ())), tuple(getattr(module, "CONFIGS", ()))
    if not own and not found:
        raise InferenceConfigError(f"{path} defines neither ROBOTS nor CONFIGS")
    for value, kind in [(r, Robot) for r in own] + [(c, InferenceConfig) for c in found]:
        if not isinstance(value, kind):
            raise InferenceConfigError(
                f"{path}: expected values of type {kind.__name__}, got {type(value).__name__}"
            )
    return RobotFile(own, found)


class _Reader:
    """Checks parsed YAML; its errors name the place."""

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, place: str, problem: str) -> InferenceConfigError:
        return InferenceConfigError(f"{self._source}: {place}: {problem}")

    def mapping(self, value: Any, place: str, known: set[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.fail(place, f"expected keys and values, got {_shown(value)}")
        for key in value:
            if key not in known:
                raise self.fail(place, f"unknown key {key!r}, known: {', '.join(sorted(known))}")
        return value

    def sequence(self, value: Any, place: str) -> Sequence[Any]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise self.fail(place, f"expected a list, got {_shown(value)}")
        return value

    def get(
        self, entry: Mapping[str, Any], key: str, place: str, kind: type | tuple[type, ...]
    ) -> Any:
        if key not in entry:
            raise self.fail(place, f"{key} is missing")
        value = entry[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(f"{place}.{key}", f"is {_shown(value)}, expected {_named(kind)}")
        return value

    def path(self, entry: Mapping[str, Any], place: str) -> tuple[str, ...]:
        """The keys under ``key``: one, or a list of those that lead to it."""
        path = _path(self.get(entry, "key", place, (str, list)))
        if not path:
            raise self.fail(f"{place}.key", "has no keys, expected at least one")
        return path

    def texts(self, value: Any, place: str) -> tuple[str, ...]:
        texts = self.sequence(value, place)
        for text in texts:
            if not isinstance(text, str):
                raise self.fail(place, f"expected texts, got {_shown(text)}")
        return tuple(texts)

    def numbers(self, value: Any, place: str, size: int) -> np.ndarray:
        numbers = self.sequence(value, place)
        if len(numbers) != size or not all(
            isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers
        ):
            raise self.fail(place, f"expected {size} numbers, got {_shown(value)}")
        return np.array([self.finite(n, place) for n in numbers], np.float64)

    def finite(self, number: float, place: str) -> float:
        # float() refuses a whole number beyond its range
        with contextlib.suppress(OverflowError):
            value = float(number)
            if math.isfinite(value):
                return value
        raise self.fail(place, f"is {_shown(number)}, expected a finite number")


def _robot(reader: _Reader, entry: Any, place: str) -> Robot:
    known = {"name", "control_hz", "cameras", "ignored_cameras", "state", "actions", "hold"}
    known |= {"state_to_model", "actions_to_robot"}
    entry = reader.mapping(entry, place, known)
    name = reader.get(entry, "name", place, str)
    rate = reader.get(entry, "control_hz", place, (int, float))
    rate = reader.finite(rate, f"{place}.control_hz")
    if not rate > 0:
        raise reader.fail(f"{place}.control_hz", f"is {rate:g}, expected more than 0")
    cameras = [
        _camera(reader, camera, f"{place}.cameras[{i}]")
        for i, camera in enumerate(reader.sequence(entry.get("cameras"), f"{place}.cameras"))
    ]
    slots = [camera.slot for camera in cameras]
    for slot in slots:
        if slots.count(slot) > 1:
            raise reader.fail(f"{place}.cameras", f"two cameras fill {slot}")
    state = [
        _state(reader, part, f"{place}.state[{i}]")
        for i, part in enumerate(reader.sequence(entry.get("state"), f"{place}.state"))
    ]
    actions = tuple(
        _action(reader, action, f"{place}.actions[{i}]")
        for i, action in enumerate(reader.sequence(entry.get("actions"), f"{place}.actions"))
    )
    if not actions or not state or not cameras:
        raise reader.fail(place, "cameras, state and actions need at least one entry each")
    conversions: dict[str, Any] = {}
    sizes = {"state_to_model": sum(part.size for part in state), "actions_to_robot": len(actions)}
    for key, size in sizes.items():
        if key in entry:
            conversion = _linear(reader, entry[key], f"{place}.{key}", size)
            conversions[key] = conversion
            if key == "actions_to_robot":
                conversions["actions_to_model"] = conversion.inverse
    if "hold" in entry:
        conversions["hold"] = _hold(reader, entry["hold"], f"{place}.hold")
    ignored = reader.sequence(entry.get("ignored_cameras", []), f"{place}.ignored_cameras")
    try:
        return Robot(
            name=name,
            cameras=tuple(sorted(cameras, key=lambda camera: _order(camera.slot))),
            state=tuple(state),
            actions=actions,
            control_hz=rate,
            ignored_images=tuple(_path(key) for key in ignored),
            **conversions,
        )
    except InferenceConfigError as error:
        raise reader.fail(place, str(error)) from error


def _state(reader: _Reader, entry: Any, place: str) -> StateInput:
    entry = reader.mapping(entry, place, {field.name for field in fields(StateInput)})
    path = reader.path(entry, place)
    size = reader.get(entry, "size", place, int)
    if not 1 <= size <= _MOST_NUMBERS:
        expected = "at least 1" if size < 1 else f"at most {_MOST_NUMBERS}"
        raise reader.fail(f"{place}.size", f"is {_shown(size)}, expected {expected}")
    values: dict[str, Any] = {
        what: reader.get(entry, what, place, str)
        for what in ("kind", "frame", "rotation")
        if what in entry
    }
    if "names" in entry:
        values["names"] = reader.texts(entry["names"], f"{place}.names")
    if "unit" in entry:
        unit = entry["unit"]
        values["unit"] = unit if isinstance(unit, str) else reader.texts(unit, f"{place}.unit")
    try:
        return StateInput(path, size, **values)
    except InferenceConfigError as error:
        raise reader.fail(place, str(error)) from error


def _action(reader: _Reader, entry: Any, place: str) -> ActionColumn:
    """A name alone is a joint's absolute position in rad."""
    if not isinstance(entry, Mapping):
        return ActionColumn(str(entry))
    entry = reader.mapping(entry, place, {field.name for field in fields(ActionColumn)})
    kinds: dict[str, tuple[type, ...]] = {"closed": (int, float), "open": (int, float)}
    values = {
        key: reader.get(entry, key, place, kinds.get(key, (str,))) for key in {"name", *entry}
    }
    if "unit" not in values and values.get("interface", "position") != "position":
        raise reader.fail(place, f"unit is missing: it is needed for {values['interface']}")
    try:
        return ActionColumn(**values)
    except InferenceConfigError as error:
        raise reader.fail(place, str(error)) from error


def _hold(reader: _Reader, entry: Any, place: str) -> tuple[int | None, ...]:
    entries = reader.sequence(entry, place)
    if not all(
        index is None or (isinstance(index, int) and not isinstance(index, bool))
        for index in entries
    ):
        raise reader.fail(place, f"expected whole numbers and null, got {_shown(entry)}")
    return tuple(entries)


def _camera(reader: _Reader, entry: Any, place: str) -> CameraInput:
    entry = reader.mapping(entry, place, {"key", "slot", "layout", "required"})
    layout = entry.get("layout", "hwc")
    if layout not in ("hwc", "chw"):
        raise reader.fail(f"{place}.layout", f"is {_shown(layout)}, expected hwc or chw")
    slot = reader.get(entry, "slot", place, str)
    required = entry.get("required", True)
    if not isinstance(required, bool):
        raise reader.fail(f"{place}.required", f"is {_shown(required)}, expected true or false")
    return CameraInput(reader.path(entry, place), slot, layout, required)


def _config(reader: _Reader, entry: Any, place: str, own: Mapping[str, Robot]) -> InferenceConfig:
    plain = {
        "action_dim": int,
        "max_token_len": int,
        "discrete_state_input": bool,
        "blank_cameras_seen": bool,
        "trained_with_prefix": bool,
        "default_prompt": str,
        "fast_tokenizer": str,
        "normalization": str,
        "checkpoint": str,
    }
    known = {"name", "robot", "model", "asset_id", "action_horizon", "delta", "cameras", "metadata"}
    entry = reader.mapping(entry, place, known | plain.keys())
    name = reader.get(entry, "name", place, str)
    robot_name = reader.get(entry, "robot", place, str)
    robot = own.get(robot_name) or robots.ROBOTS.get(robot_name)
    if robot is None:
        names = ", ".join(sorted({*own, *robots.ROBOTS}))
        raise reader.fail(f"{place}.robot", f"is {robot_name!r}, known: {names}")
    kind = reader.get(entry, "model", place, str)
    if kind not in MODEL_NAMES:
        raise reader.fail(
            f"{place}.model", f"is {kind!r}, expected one of {', '.join(MODEL_NAMES)}"
        )
    values: dict[str, Any] = {
        key: reader.get(entry, key, place, of) for key, of in plain.items() if key in entry
    }
    values.setdefault("max_token_len", _PROMPT_SLOTS[kind])
    if kind == "pi0_fast":
        values.setdefault("action_dim", len(robot.action_names))
    delta = reader.sequence(entry.get("delta", []), f"{place}.delta")
    if not all(isinstance(run, int) and 1 <= abs(run) <= _MOST_NUMBERS for run in delta):
        raise reader.fail(f"{place}.delta", f"expected counts such as [6, -1], got {_shown(delta)}")
    if "cameras" in entry:
        values["cameras"] = tuple(map(str, reader.sequence(entry["cameras"], f"{place}.cameras")))
    try:
        return InferenceConfig(
            name,
            robot,
            reader.get(entry, "asset_id", place, str),
            reader.get(entry, "action_horizon", place, int),
            kind=kind,
            delta_mask=delta_mask(*delta),
            metadata=reader.mapping(entry.get("metadata", {}), f"{place}.metadata", _AnyKey()),
            **values,
        )
    except InferenceConfigError as error:
        raise reader.fail(place, str(error)) from error


def _linear(reader: _Reader, entry: Any, place: str, size: int) -> Linear:
    entry = reader.mapping(entry, place, {field.name for field in fields(Linear)})
    ones, zeros = [1] * size, [0] * size
    return Linear(
        reader.numbers(entry.get("scale", ones), f"{place}.scale", size),
        reader.numbers(entry.get("offset", zeros), f"{place}.offset", size),
    )


class _AnyKey(set[str]):
    def __contains__(self, key: object) -> bool:
        return True


def _path(key: str | list[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(map(str, key))


def _order(slot: str) -> int:
    return CAMERAS.index(slot) if slot in CAMERAS else len(CAMERAS)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _named(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # a whole number is a number, too
    return " or ".join(_KIND_NAMES[one] for one in kinds if not (one is int and float in kinds))


def _told(error: Exception) -> str:
    """What went wrong and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    return f"{type(error).__name__}: {error}"


_KIND_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
}
