"""The named configs of openpi, and ours for the robots that openpi only describes.

Source: ``openpi/training/config.py``. A row holds what differs from the defaults of its model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_models.robots.droid import DROID, DROID_JOINT_POSITION
from openpi_flash_models.robots.libero import LIBERO
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_models.robots.ur5 import UR5
from openpi_flash_models.transforms.delta import delta_mask

_RELEASED = "gs://openpi-assets/checkpoints"
_RESET_POSE = {"reset_pose": [0, -1.5, 1.5, 0, 0, 0]}
_UNCAP = "uncap the pen"
# pi0-FAST's second camera is one that DROID lacks; on LIBERO it is the third
_DROID_FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "left_wrist_0_rgb")

ENVIRONMENTS = {
    "aloha": "pi05_aloha",
    "aloha_sim": "pi0_aloha_sim",
    "droid": "pi05_droid",
    "libero": "pi05_libero",
}
"""The default policies of openpi's ``scripts/serve_policy.py``, by its names of robots."""

UNSERVABLE = {
    "paligemma_vq_droid": "its actions are coded by a learned codec (FSQ), which is not supported",
    "debug": "it has no robot and no statistics",
    "debug_restore": "it has no robot and no statistics",
    "debug_pi05": "it has no robot and no statistics",
}


def all_configs() -> Iterator[InferenceConfig]:
    """Every config, openpi's and ours."""
    yield from _aloha()
    yield from _droid()
    yield from _roboarena()
    yield from _libero()
    yield _pi0("pi0_ur5", UR5, "ur5e", 50, delta_mask=delta_mask(6, -1), checkpoint="pi0_base")
    yield _pi05("pi05_ur5", UR5, "ur5e", 50, delta_mask=delta_mask(6, -1), checkpoint="pi05_base")
    yield _pi05("pi05_sim_arm", SIM_ARM, "sim_arm", 50)


def _aloha() -> Iterator[InferenceConfig]:
    arms: dict[str, Any] = {"robot": ALOHA, "asset_id": "trossen", "action_horizon": 50}
    arms["delta_mask"] = delta_mask(6, -1, 6, -1)
    yield _pi0("pi0_aloha", **arms, checkpoint="pi0_base", metadata=_RESET_POSE)
    yield _pi05("pi05_aloha", **arms, checkpoint="pi05_base", metadata=_RESET_POSE)
    yield _pi0(
        "pi0_aloha_towel",
        **arms,
        checkpoint="pi0_aloha_towel",
        default_prompt="fold the towel",
        metadata=_RESET_POSE,
    )
    yield _pi0(
        "pi0_aloha_tupperware",
        **arms,
        checkpoint="pi0_aloha_tupperware",
        default_prompt="open the tupperware and put the food on the plate",
        metadata=_RESET_POSE,
    )
    yield _pi0(
        "pi0_aloha_pen_uncap", **arms, checkpoint="pi0_aloha_pen_uncap", default_prompt=_UNCAP
    )
    yield _pi05("pi05_aloha_pen_uncap", **arms, default_prompt=_UNCAP)
    yield _pi0(
        "pi0_aloha_sim",
        ALOHA,
        "lerobot/aloha_sim_transfer_cube_human",
        50,
        checkpoint="pi0_aloha_sim",
        default_prompt="Transfer cube",
    )


def _droid() -> Iterator[InferenceConfig]:
    yield _pi0("pi0_droid", DROID, "droid", 10, checkpoint="pi0_droid")
    yield _fast("pi0_fast_droid", DROID, "droid", 10, checkpoint="pi0_fast_droid")
    yield _pi05("pi05_droid", DROID, "droid", 15, checkpoint="pi05_droid")
    yield _pi05("pi05_droid_finetune", DROID, "droid", 16)
    joints: dict[str, Any] = {
        "robot": DROID_JOINT_POSITION,
        "asset_id": "droid",
        "delta_mask": delta_mask(7, -1),
    }
    yield _fast("pi0_fast_full_droid_finetune", **joints, action_horizon=16, max_token_len=180)
    yield _pi05("pi05_full_droid_finetune", **joints, action_horizon=16)
    name = "pi05_droid_jointpos_polaris"
    yield _pi05(name, **joints, action_horizon=15, checkpoint=f"polaris/{name}")
    name = "pi0_fast_droid_jointpos_polaris"
    yield _fast(name, **joints, action_horizon=10, max_token_len=180, checkpoint=f"polaris/{name}")
    for name in ("pi0_droid_jointpos_polaris", "pi0_droid_jointpos_100k_polaris"):
        yield _pi0(
            name, **joints, action_horizon=10, max_token_len=100, checkpoint=f"polaris/{name}"
        )


def _roboarena() -> Iterator[InferenceConfig]:
    velocity: dict[str, Any] = {"robot": DROID, "asset_id": "droid", "action_horizon": 15}
    name = "paligemma_binning_droid"
    yield _fast(
        name, **velocity, max_token_len=400, action_tokens="bins", checkpoint=f"roboarena/{name}"
    )
    yield _fast(
        "paligemma_binning_droid_jointpos",
        DROID_JOINT_POSITION,
        "droid",
        15,
        delta_mask=delta_mask(7, -1),
        max_token_len=600,
        action_tokens="bins",
    )
    name = "paligemma_fast_droid"
    yield _fast(name, **velocity, checkpoint=f"roboarena/{name}")
    name = "paligemma_fast_specialist_droid"
    yield _fast(
        name,
        **velocity,
        fast_tokenizer="KarlP/fast_droid_specialist",
        checkpoint=f"roboarena/{name}",
    )
    name = "paligemma_diffusion_droid"
    yield _pi0(name, DROID, "droid", 10, action_dim=8, checkpoint=f"roboarena/{name}")


def _libero() -> Iterator[InferenceConfig]:
    arm: dict[str, Any] = {"robot": LIBERO, "asset_id": "physical-intelligence/libero"}
    relative = arm | {"delta_mask": delta_mask(6, -1)}
    yield _pi0("pi0_libero", **relative, action_horizon=50, checkpoint="pi0_libero")
    yield _pi0("pi0_libero_low_mem_finetune", **relative, action_horizon=50)
    yield _fast(
        "pi0_fast_libero",
        **relative,
        action_horizon=10,
        max_token_len=180,
        checkpoint="pi0_fast_libero",
        # trained before openpi scaled every pi0-FAST by percentiles (openpi issue 849, PR 971)
        released_normalization="mean_std",
    )
    yield _fast(
        "pi0_fast_libero_low_mem_finetune", **relative, action_horizon=10, max_token_len=180
    )
    yield _pi05(
        "pi05_libero",
        **arm,
        action_horizon=10,
        discrete_state_input=False,
        checkpoint="pi05_libero",
    )


def _pi0(
    name: str, robot: Robot, asset_id: str, action_horizon: int, **rest: Any
) -> InferenceConfig:
    rest = {"max_token_len": 48, "discrete_state_input": False} | rest
    return _config(name, robot, asset_id, action_horizon, kind="pi0", **rest)


def _pi05(
    name: str, robot: Robot, asset_id: str, action_horizon: int, **rest: Any
) -> InferenceConfig:
    return _config(name, robot, asset_id, action_horizon, kind="pi05", **rest)


def _fast(
    name: str, robot: Robot, asset_id: str, action_horizon: int, **rest: Any
) -> InferenceConfig:
    rest = {
        "max_token_len": 250,
        "action_dim": len(robot.action_names),
        "blank_cameras_seen": True,
    } | rest
    if robot in (DROID, DROID_JOINT_POSITION):
        rest["cameras"] = _DROID_FAST_CAMERAS
    return _config(name, robot, asset_id, action_horizon, kind="pi0_fast", **rest)


def _config(
    name: str, robot: Robot, asset_id: str, action_horizon: int, **rest: Any
) -> InferenceConfig:
    if "checkpoint" in rest:
        rest["checkpoint"] = f"{_RELEASED}/{rest['checkpoint']}"
    return InferenceConfig(name, robot, asset_id, action_horizon, **rest)
