"""The server's metadata, and whether it fits this robot.

The metadata comes from the network: every key is checked, and every key may be missing, because an
openpi server sends almost none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.settings.action_meaning import ActionMeaning, parse_meanings
from openpi_flash_robot.settings.axis_play import AxisPlay, CannotPlayError, Reading, play_of
from openpi_flash_robot.settings.input_meaning import InputMeaning, objections, parse_inputs
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.pose_columns import PoseColumns, axis_columns
from openpi_flash_robot.settings.state_inputs import RequestPath

T = TypeVar("T")


class ContractError(ValueError):
    """This server and this robot do not fit together; a person has to change one of them."""


@dataclass(frozen=True)
class ImageTarget:
    """The image a server wants: size, and whether the channels come first."""

    height: int
    width: int
    channels_first: bool


@dataclass(frozen=True)
class ServerContract:
    """The keys of the server's metadata that the node reads. None: the key is missing."""

    images: Mapping[RequestPath, ImageTarget] = field(default_factory=dict)
    action_horizon: int | None = None
    action_dim: int | None = None
    action_rate_hz: float | None = None
    action_names: tuple[str, ...] | None = None
    actions: tuple[ActionMeaning, ...] | None = None
    inputs: tuple[InputMeaning, ...] = ()
    robot: str = ""
    model: str = ""
    checkpoint: str = ""
    supports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Agreement:
    """What the server's metadata and the node's parameters amount to.

    Attributes:
        step_ns: spacing of the steps of a chunk.
        columns: index in the server's columns of each of ours, [C], in the order of the axes.
        column_count: how many columns a chunk must have.
        axes: how each axis is played.
        horizon: how many steps a chunk must have; None for any number.
        images: what each image must look like, by its place in the request.
        supports: optional request keys the server reads.
        model: what the server serves; empty where it does not say.
        checkpoint: name of its weights; empty where it does not say.
        warnings: for people; the robot moves all the same.
        poses: the axes that are poses, whose rotations may have more columns than axes.
        names: of our columns, [C]; empty: as the axes.
    """

    step_ns: int
    columns: tuple[int, ...]
    column_count: int
    axes: tuple[AxisPlay, ...]
    horizon: int | None
    images: Mapping[RequestPath, ImageTarget]
    supports: frozenset[str]
    model: str
    checkpoint: str
    warnings: tuple[str, ...]
    poses: tuple[PoseColumns, ...] = ()
    names: tuple[str, ...] = ()


def parse_contract(metadata: Mapping[str, Any]) -> ServerContract:
    """Read a server's metadata.

    Raises:
        ContractError: a key is there but makes no sense.
    """
    rate = metadata.get("action_rate_hz")
    if rate is not None and not (_is_number(rate) and math.isfinite(rate) and rate > 0):
        raise ContractError(f"the server's action_rate_hz is {rate!r}, expected a positive number")
    names = metadata.get("action_names")
    if names is not None and not _is_list_of(names, str):
        raise ContractError(f"the server's action_names is {names!r}, expected a list of names")
    try:
        actions = parse_meanings(metadata.get("actions"))
        inputs = parse_inputs(metadata.get("inputs"))
    except ValueError as error:
        raise ContractError(str(error)) from error
    supports = metadata.get("supports") or []
    return ServerContract(
        images=_images(metadata.get("image_specs") or []),
        action_horizon=_positive(metadata, "action_horizon"),
        action_dim=_positive(metadata, "action_dim"),
        action_rate_hz=None if rate is None else float(rate),
        action_names=tuple(names) if names else None,
        actions=actions,
        inputs=inputs,
        robot=_text(metadata, "robot"),
        model=_text(metadata, "model"),
        checkpoint=_checkpoint_name(metadata),
        supports=frozenset(supports) if _is_list_of(supports, str) else frozenset(),
    )


def agree(contract: ServerContract, settings: NodeSettings) -> Agreement:
    """Match the server's metadata with the node's parameters.

    Raises:
        ContractError: the server does not fit the parameters; the robot must not move.
    """
    rate_hz = settings.action_rate_hz or contract.action_rate_hz
    if not rate_hz:
        raise ContractError(
            "the server's metadata has no action_rate_hz; set the parameter action_rate_hz to the "
            "steps per second of its actions (openpi's servers never send it)"
        )
    columns, column_count = _columns(contract, settings)
    if contract.actions is not None and len(contract.actions) != column_count:
        raise ContractError(
            f"the server describes {len(contract.actions)} actions, and has {column_count}"
        )
    axes = _axes(contract, settings, columns)
    refusals, warnings = objections(
        contract.inputs,
        settings.observation,
        {
            axis: settings.action_columns[column]
            for axis, column in zip(
                settings.axes, axis_columns(len(settings.axes), settings.poses), strict=True
            )
        },
    )
    if refusals:
        raise ContractError("; ".join(refusals))
    step_ns = round(SECOND / rate_hz)
    _refuse_unplayable(contract, settings, step_ns)
    return Agreement(
        step_ns=step_ns,
        columns=columns,
        column_count=column_count,
        axes=axes,
        horizon=contract.action_horizon,
        images=contract.images,
        supports=_supports(contract, axes),
        model=contract.model,
        checkpoint=contract.checkpoint,
        warnings=(*_warnings(contract, settings), *warnings),
        poses=settings.poses,
        names=_chunk_names(settings),
    )


def _refuse_unplayable(contract: ServerContract, settings: NodeSettings, step_ns: int) -> None:
    """Refuse settings by which a chunk would be too old before a step of it is played."""
    player = settings.player
    length_ns = (contract.action_horizon or 0) * step_ns
    longest_ns, why = player.max_chunk_age_ns, "max_chunk_age"
    if not longest_ns:
        longest_ns, why = length_ns // 2, "half of a chunk, because max_chunk_age is 0"
    elif length_ns and length_ns < longest_ns:
        longest_ns, why = length_ns, "the whole chunk"
    lead_ns = player.lead_ns + player.smoothing_ns // 2
    if not longest_ns or longest_ns > lead_ns + step_ns:
        return
    because = "min_lead_time and max_jerk" if player.smoothing_ns else "min_lead_time"
    raise ContractError(
        f"a chunk may be played until its observation is {to_seconds(longest_ns):g} s old ({why}), "
        f"and takes over {to_seconds(lead_ns):g} s after it has come ({because}): no "
        f"step of {to_seconds(step_ns):g} s is left to play"
    )


def _columns(contract: ServerContract, settings: NodeSettings) -> tuple[tuple[int, ...], int]:
    """Where each of our columns is in the server's."""
    wanted, names = settings.action_columns, contract.action_names
    if names is not None:
        if sorted(names) != sorted(wanted):
            raise ContractError(
                f"the server's actions are {', '.join(names)}; this robot's are "
                f"{', '.join(wanted)}; set the parameters joints and action_columns to match"
            )
        return tuple(names.index(name) for name in wanted), len(names)
    if contract.action_dim is not None and contract.action_dim != len(wanted):
        raise ContractError(
            f"the server's actions have {contract.action_dim} columns, "
            f"this robot has {len(wanted)}{' axes' if not settings.poses else ''}"
        )
    return tuple(range(len(wanted))), len(wanted)


def _axes(
    contract: ServerContract, settings: NodeSettings, columns: Sequence[int]
) -> tuple[AxisPlay, ...]:
    """How each axis is played; the axes of a rotation as its first column."""
    axes: list[AxisPlay] = []
    problems = _odd_rotations(contract, settings, columns)
    firsts = axis_columns(len(settings.axes), settings.poses)
    for axis, first, kind, scale in zip(
        settings.axes, firsts, settings.action_kinds, settings.action_scale, strict=True
    ):
        meaning = contract.actions[columns[first]] if contract.actions is not None else None
        gripper, controller = settings.gripper_of(axis), settings.controller_of(axis)
        try:
            play = play_of(
                axis, meaning, kind=kind, scale=scale, gripper=gripper, controller=controller
            )
        except CannotPlayError as error:
            problems.append(str(error))
        else:
            axes.append(play)
    if problems:
        more = f" (and {len(problems) - 1} more axes)" if len(problems) > 1 else ""
        raise ContractError(f"{problems[0]}{more}")
    return tuple(axes)


def _odd_rotations(
    contract: ServerContract, settings: NodeSettings, columns: Sequence[int]
) -> list[str]:
    """The columns of rotations that mean something else than their first one."""
    if contract.actions is None:
        return []
    problems: list[str] = []
    for pose in settings.poses:
        first, *others = (contract.actions[columns[column]] for column in pose.rotation_columns)
        problems += [
            f"the server's action {other} is no part of the rotation that {first.name} begins"
            for other in others
            if (other.interface, other.rotation, other.frame, other.reference)
            != (first.interface, first.rotation, first.frame, first.reference)
        ]
    return problems


def _chunk_names(settings: NodeSettings) -> tuple[str, ...]:
    """What the columns of a chunk are called: as the axes, where each has one column."""
    names = list(settings.action_columns)
    firsts = axis_columns(len(settings.axes), settings.poses)
    for axis, column in zip(settings.axes, firsts, strict=True):
        if firsts.count(column) == 1:
            names[column] = axis
    return tuple(names)


def _supports(contract: ServerContract, axes: Sequence[AxisPlay]) -> frozenset[str]:
    """What the server reads besides; no rtc where offsets count from each observation anew."""
    if any(axis.reading is Reading.FROM_OBSERVED for axis in axes):
        return contract.supports - {"rtc", "rtc_prefix"}
    return contract.supports


def _warnings(contract: ServerContract, settings: NodeSettings) -> tuple[str, ...]:
    warnings = []
    ours = {camera.key: camera.name for camera in settings.observation.cameras}
    if contract.images and not contract.inputs:
        warnings += [
            f"the server reads an image at {'.'.join(path)}, but no camera.<name>.key is that"
            for path in contract.images
            if path not in ours
        ]
    if contract.images:
        warnings += [
            f"camera {name} goes to {'.'.join(path)}, where the server reads no image"
            for path, name in ours.items()
            if path not in contract.images
        ]
    observation = settings.observation
    wants_jpeg = observation.jpeg_quality is not None and observation.image_budget is None
    if wants_jpeg and "jpeg" not in contract.supports:
        warnings.append("the server does not read jpeg; images are sent raw")
    method = settings.player.chunk_method
    if method in ("rtc", "rtc_prefix") and "rtc" not in contract.supports:
        warnings.append("the server cannot continue a chunk (rtc); chunks are faded in instead")
    elif method == "rtc_prefix" and method not in contract.supports:
        warnings.append(
            "the server's checkpoint was not trained with known actions (rtc_prefix); its chunks "
            "are guided instead (rtc)"
        )
    rate_hz = contract.action_rate_hz
    if rate_hz is not None and settings.action_rate_hz not in (0.0, rate_hz):
        warnings.append(
            f"the server's actions have {rate_hz:g} steps per second; the parameter "
            f"action_rate_hz plays them at {settings.action_rate_hz:g}"
        )
    return tuple(warnings)


def _images(specs: Any) -> dict[RequestPath, ImageTarget]:
    if not isinstance(specs, (list, tuple)):
        raise ContractError(f"the server's image_specs is {specs!r}, expected a list")
    return dict(_image(spec) for spec in specs)


def _image(spec: Any) -> tuple[RequestPath, ImageTarget]:
    if not isinstance(spec, Mapping):
        raise ContractError(f"an entry of the server's image_specs is {spec!r}, expected a map")
    path, shape = spec.get("path"), spec.get("target_shape")
    if not _is_list_of(path, str) or not path:
        raise ContractError(f"an entry of the server's image_specs has the path {path!r}")
    where = ".".join(path)
    dtype = spec.get("dtype", "uint8")
    if dtype != "uint8":
        raise ContractError(f"the server wants {where} as {dtype}; this node sends uint8")
    if not _is_list_of(shape, int) or len(shape) != 3 or min(shape) <= 0:
        raise ContractError(f"the server wants {where} in the shape {shape!r}")
    if shape[2] == 3:
        return tuple(path), ImageTarget(shape[0], shape[1], channels_first=False)
    if shape[0] == 3:
        return tuple(path), ImageTarget(shape[1], shape[2], channels_first=True)
    raise ContractError(
        f"the server wants {where} in the shape {list(shape)}, expected [H, W, 3] or [3, H, W]"
    )


LONGEST_TEXT = 200
"""Characters of a server's text that status messages show."""


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def _checkpoint_name(metadata: Mapping[str, Any]) -> str:
    checkpoint = metadata.get("checkpoint")
    return _text(checkpoint, "name") if isinstance(checkpoint, Mapping) else ""


def _positive(metadata: Mapping[str, Any], key: str) -> int | None:
    value = metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ContractError(f"the server's {key} is {value!r}, expected a positive number")
    return value


def _is_list_of(value: Any, kind: type[T]) -> TypeGuard[Sequence[T]]:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
