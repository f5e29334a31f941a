"""The metadata that a client gets before its first request."""

from __future__ import annotations

import dataclasses
from typing import Any

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.policy.policy_protocol import PolicySpec
from openpi_flash_server import __version__

PROTOCOL = "openpi-flash/1"

_REQUEST_KEYS = [
    *("session", "session_token", "deadline_ms", "observation_stamp", "request_class"),
    *("expected_artifact", "traceparent", "batch", "jpeg"),
]


def action_metadata(spec: PolicySpec, *, has_planner: bool) -> dict[str, Any]:
    """The action endpoint's metadata: openpi's own keys, then ours."""
    return {
        **spec.metadata,
        **_common(),
        "model": spec.model,
        "config": spec.config,
        **_checkpoint(spec.checkpoint),
        **_known(
            {
                "robot": spec.robot,
                "image_specs": _image_specs(spec),
                **_inputs(spec),
                "action_horizon": spec.action_horizon,
                "action_dim": spec.action_dim,
                "action_rate_hz": spec.action_rate_hz,
                "action_names": list(spec.action_names),
                "actions": [dataclasses.asdict(action) for action in spec.actions],
            }
        ),
        "supports": [*_REQUEST_KEYS, *spec.supports, *(["mode", "subtask"] if has_planner else [])],
    }


def planner_metadata(
    spec: PolicySpec | None, checkpoint: CheckpointIdentity | None
) -> dict[str, Any]:
    """The planner endpoint's metadata.

    Args:
        spec: the action policy's; the planner reads the same images.
        checkpoint: the planner's.
    """
    metadata = {**_common(), **_checkpoint(checkpoint), "supports": [*_REQUEST_KEYS, "subtask"]}
    if spec is not None:
        metadata |= _known({"robot": spec.robot, "image_specs": _image_specs(spec)})
    return metadata


def _known(entries: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what the policy does not say; a robot's own settings then say it."""
    return {key: value for key, value in entries.items() if value}


def _common() -> dict[str, Any]:
    return {"protocol": PROTOCOL, "server_version": __version__}


def _checkpoint(checkpoint: CheckpointIdentity | None) -> dict[str, Any]:
    if checkpoint is None:
        return {}
    return {"checkpoint": {"name": checkpoint.name, "digest": checkpoint.digest}}


def _image_specs(spec: PolicySpec) -> list[dict[str, Any]]:
    return [
        {"path": list(image.path), "target_shape": list(image.shape), "dtype": image.dtype}
        for image in spec.image_specs
    ]


def _inputs(spec: PolicySpec) -> dict[str, Any]:
    if spec.inputs is None:
        return {}
    return {"inputs": [given.as_metadata() for given in spec.inputs]}
