"""Which columns of a dataset are a robot's cameras, state and actions.

A key that the user does not map is found by its name: ``observation/wrist_image`` is
``observation.images.wrist_image``, ``observation.images.wrist`` or ``observation.wrist_image``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openpi_flash_models.robots.robot import Robot
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.episodes.error import DataError

ACTION = "action"
STATE = "observation.state"


@dataclass(frozen=True)
class StatePart:
    """Numbers of one key of a request.

    Attributes:
        path: the keys that lead to it.
        column: of the dataset.
        start: first of its numbers in the column.
        size: how many.
    """

    path: tuple[str, ...]
    column: str
    start: int
    size: int


@dataclass(frozen=True)
class Columns:
    """Where a dataset has what a robot's requests hold.

    Attributes:
        cameras: column by the keys that lead to an image; cameras that the dataset lacks and the
            robot may leave out are not here.
        state: parts in the robot's order.
        action: column of the actions.
    """

    cameras: Mapping[tuple[str, ...], str]
    state: tuple[StatePart, ...]
    action: str


def find_columns(
    folder: Path,
    robot: Robot,
    features: Mapping[str, Feature],
    mapped: Mapping[str, str],
    *,
    need_cameras: bool = True,
    how_to_name: str = "",
) -> Columns:
    """The columns of a dataset for a robot.

    Args:
        folder: of the dataset, for errors.
        robot: whose requests a policy reads.
        features: of the dataset.
        mapped: columns by a request's key, or ``action``, as the user wrote them.
        need_cameras: whether a camera that the robot requires must be there.
        how_to_name: the option by which a user names the column of ``{key}``; empty where there is
            none.

    Raises:
        DataError: a key cannot be found, is unknown, or its column is of another kind or size.
    """
    try:
        return _find(robot, features, mapped, need_cameras)
    except _MissingError as error:
        raise DataError(folder, error.advice(how_to_name)) from None
    except _ColumnError as error:
        raise DataError(folder, str(error)) from None


class _ColumnError(ValueError):
    """A key has no column, or not the one that it needs."""


class _MissingError(_ColumnError):
    """A key has no column.

    Args:
        key: of the robot's requests, or ``action``.
        columns: that might be it.
    """

    def __init__(self, key: str, columns: list[str]) -> None:
        super().__init__(key)
        self._key, self._columns = key, columns

    def advice(self, how_to_name: str) -> str:
        """What is missing, and what the user can do about it."""
        there = ", ".join(self._columns) or "none of its kind"
        way = how_to_name.replace("{key}", self._key)
        named = f"name it by {way}" if way else "it is found by its name alone, so rename it"
        return f"the dataset has no column for {self._key}; {named}; there are {there}"


def _find(
    robot: Robot, features: Mapping[str, Feature], mapped: Mapping[str, str], need_cameras: bool
) -> Columns:
    paths = [camera.path for camera in robot.cameras] + [part.path for part in robot.state]
    known = {"/".join(path) for path in paths} | {ACTION}
    for key, column in mapped.items():
        if key not in known:
            raise _ColumnError(
                f"{key!r} is no key of the robot {robot.name}'s; {_near(key, known)}"
            )
        if column not in features:
            raise _ColumnError(
                f"{key} is mapped to {column!r}, which the dataset lacks; {_near(column, features)}"
            )
    cameras = {}
    for camera in robot.cameras:
        found = _camera_column("/".join(camera.path), features, mapped)
        if found is not None:
            cameras[camera.path] = found
        elif camera.required and need_cameras:
            raise _MissingError("/".join(camera.path), _keys(features, images=True))
    state = tuple(_state(robot, features, mapped))
    action = mapped.get(ACTION, ACTION if ACTION in features else "actions")
    if action not in features:
        raise _MissingError(ACTION, _keys(features, images=False))
    _check_size(action, features[action], len(robot.actions), f"the robot {robot.name}'s actions")
    return Columns(cameras, state, action)


def _camera_column(
    key: str, features: Mapping[str, Feature], mapped: Mapping[str, str]
) -> str | None:
    last = key.rpartition("/")[2]
    short = last.removesuffix("_image").removesuffix("_rgb")
    candidates = [mapped[key]] if key in mapped else [key.replace("/", ".")]
    if key not in mapped:
        candidates += [f"observation.images.{name}" for name in dict.fromkeys((last, short))]
        candidates += [f"observation.{last}", last]
    for column in candidates:
        if column in features:
            if not features[column].is_image:
                raise _ColumnError(f"{key} is {column}, which is no camera")
            return column
    return None


def _state(
    robot: Robot, features: Mapping[str, Feature], mapped: Mapping[str, str]
) -> Iterator[StatePart]:
    """Each part from a column of its own, or all of them from one column of all numbers."""
    keys = ["/".join(part.path) for part in robot.state]
    own = {key: _number_column(key, features, mapped) for key in keys}
    if len(keys) == 1 and own[keys[0]] is None and STATE in features:
        own[keys[0]] = STATE
    missing = [key for key, column in own.items() if column is None]
    if not missing:
        for part, column in zip(robot.state, own.values(), strict=True):
            assert column is not None
            _check_size(column, features[column], part.size, "/".join(part.path))
            yield StatePart(part.path, column, 0, part.size)
        return
    if STATE not in features or len(missing) < len(keys):
        raise _MissingError(missing[0], _keys(features, images=False))
    total = sum(part.size for part in robot.state)
    _check_size(STATE, features[STATE], total, f"{', '.join(keys)} together")
    start = 0
    for part in robot.state:
        yield StatePart(part.path, STATE, start, part.size)
        start += part.size


def _number_column(
    key: str, features: Mapping[str, Feature], mapped: Mapping[str, str]
) -> str | None:
    last = key.rpartition("/")[2]
    candidates = [mapped[key]] if key in mapped else [key.replace("/", "."), last]
    for column in candidates:
        if column in features:
            if not features[column].is_number:
                raise _ColumnError(f"{key} is {column}, which holds no numbers")
            return column
    return None


def _check_size(column: str, feature: Feature, size: int, needed_by: str) -> None:
    if feature.shape != (size,):
        shape = "x".join(map(str, feature.shape))
        raise _ColumnError(
            f"the column {column} has {shape} numbers a frame, {needed_by} "
            f"{'have' if needed_by.endswith(('actions', 'together')) else 'has'} {size}"
        )


def _keys(features: Mapping[str, Feature], *, images: bool) -> list[str]:
    return [
        key
        for key, feature in features.items()
        if (feature.is_image if images else feature.is_number)
    ]


def _near(name: str, known: Mapping[str, Feature] | set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
