"""The parameters of what goes into a request: cameras, states, the instruction."""

from __future__ import annotations

from openpi_flash_robot.settings.node_settings import Camera, ObservationSettings, PoseInput
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.state_inputs import (
    RequestPath,
    Rotation,
    StateInput,
    StateKind,
)
from openpi_flash_robot.settings.typed_values import Values


def parse_observation(
    values: Values, joints: tuple[str, ...], poses: tuple[PoseInput, ...] = ()
) -> ObservationSettings:
    """What goes into a request, and what is measured besides.

    Args:
        values: of the parameters.
        joints: whose states are read.
        poses: of end effectors that are commanded.

    Raises:
        ParameterError: something is missing, or two inputs go to one place.
    """
    names = values.names("cameras")
    if not names:
        raise ParameterError("parameter cameras is empty; list the names of the robot's cameras")
    cameras = tuple(_camera(values, name) for name in names)
    topics = values.names("joint_state_topics")
    if joints and not topics:
        raise ParameterError(
            "parameter joint_state_topics is empty; list the topics with sensor_msgs/JointState"
        )
    prefixes = values.get("joint_state_prefixes", tuple) or ("",) * len(topics)
    if len(prefixes) != len(topics):
        raise ParameterError(
            f"parameter joint_state_prefixes has {len(prefixes)} values for {len(topics)} "
            "joint_state_topics"
        )
    states = _states(values, joints)
    prompt_key = values.path("prompt_key", "give the key of the instruction in the request")
    state_keys = dict.fromkeys(state.key for state in states)
    _check_paths([*(camera.key for camera in cameras), *state_keys, prompt_key])
    encoding, quality = values.get("image_encoding", str), values.get("jpeg_quality", int)
    height, width = values.get("image_height", int), values.get("image_width", int)
    if (height == 0) != (width == 0):
        raise ParameterError("parameters image_height and image_width must both be 0 or neither")
    return ObservationSettings(
        cameras=cameras,
        image_size=(height, width) if height else None,
        image_layout=values.get("image_layout", str),
        jpeg_quality=None if encoding == "raw" else quality,
        image_budget=values.get("image_budget", float) if encoding == "auto" else None,
        least_jpeg_quality=min(values.get("least_jpeg_quality", int), quality),
        joint_state_topics=topics,
        joints_are_stamped_on_arrival=values.get("joint_state_stamp", str) == "arrival",
        joint_state_prefixes=tuple(map(str, prefixes)),
        joints=(*joints, *(axis for pose in poses for axis in pose.axes)),
        poses=poses,
        states=states,
        prompt_key=prompt_key,
        max_age_ns=values.seconds("max_observation_age"),
        max_skew_ns=values.seconds("max_camera_skew"),
        max_blind_ns=values.seconds("max_blind_time"),
        max_frozen_ns=values.seconds("max_frozen_time"),
    )


def _camera(values: Values, name: str) -> Camera:
    topic = values.required(f"camera.{name}.topic", "give the topic of its images")
    kind = values.get(f"camera.{name}.image_transport", str)
    return Camera(
        name,
        topic,
        values.path(f"camera.{name}.key", "give the key of its image in the request"),
        # image_transport's own name for such a topic
        is_compressed=topic.endswith("/compressed") if kind == "auto" else kind == "compressed",
        is_stamped_on_arrival=values.get(f"camera.{name}.stamp", str) == "arrival",
    )


def _check_paths(paths: list[RequestPath]) -> None:
    """No two inputs may land in the same place, nor one inside another."""
    for index, path in enumerate(paths):
        for other in paths[index + 1 :]:
            shorter = min(len(path), len(other))
            if path[:shorter] == other[:shorter]:
                raise ParameterError(
                    f"two inputs go to the same place in the request: "
                    f"{'.'.join(path)} and {'.'.join(other)}"
                )


def _states(values: Values, joints: tuple[str, ...]) -> tuple[StateInput, ...]:
    names = values.names("states")
    if names:
        return tuple(_state(values, name, joints) for name in names)
    key = values.path("state_key", "give the key of the joint positions in the request")
    size = len(joints)
    return (
        StateInput(
            name="joints",
            key=key,
            kind=StateKind.JOINT_POSITIONS,
            joints=joints,
            topic="",
            rotation=Rotation.ROTVEC,
            size=size,
            scale=(1.0,) * size,
            offset=(0.0,) * size,
        ),
    )


def _state(values: Values, name: str, joints: tuple[str, ...]) -> StateInput:
    prefix = f"state.{name}"
    kind = StateKind(values.get(f"{prefix}.kind", str))
    rotation = Rotation(values.get(f"{prefix}.rotation", str))
    key = f"{prefix}.key" if values.get(f"{prefix}.key", str) else "state_key"
    group: tuple[str, ...] = ()
    topic = ""
    if kind.is_of_joints:
        group = values.some_of(f"{prefix}.joints", joints, "joints") or joints
        if not group:
            raise ParameterError(f"{prefix} is of kind {kind.value}, and parameter joints is empty")
    else:
        topic = _topic(values, prefix, kind)
    frame, child_frame = (values.get(f"{prefix}.{key}", str) for key in ("frame", "child_frame"))
    size = {
        StateKind.POSE: 3 + rotation.size,
        StateKind.TF: 3 + rotation.size,
        StateKind.FLOAT64: 1,
        StateKind.FLOAT32: 1,
        StateKind.TWIST: 6,
        StateKind.WRENCH: 6,
        StateKind.BASE_TWIST: 3,
        StateKind.ODOMETRY: 3,
        StateKind.VECTOR: values.get(f"{prefix}.size", int),
    }.get(kind, len(group))
    if not size:
        raise ParameterError(f"parameter {prefix}.size is not set; say how many numbers it has")
    return StateInput(
        name=name,
        key=values.path(key, "give its key in the request"),
        kind=kind,
        joints=group,
        topic=topic,
        rotation=rotation,
        size=size,
        scale=values.numbers(f"{prefix}.scale", size, "numbers"),
        offset=values.numbers(f"{prefix}.offset", size, "numbers"),
        frame=frame if kind.is_pose else "",
        child_frame=child_frame if kind is StateKind.TF else "",
    )


def _topic(values: Values, prefix: str, kind: StateKind) -> str:
    if kind is not StateKind.TF:
        return values.required(f"{prefix}.topic", f"give the topic of the {kind.value}")
    values.required(f"{prefix}.frame", "name the frame in which the pose counts, as base_link")
    values.required(f"{prefix}.child_frame", "name the frame whose pose it is, as tool0")
    return "/tf"
