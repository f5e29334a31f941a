"""The type of a named inference config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import ModelKind
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.transforms.norm_stats import Scaling
from openpi_flash_models.transforms.normalize import NormalizationChoice

ActionTokens = Literal["fast", "bins"]


@dataclass(frozen=True)
class InferenceConfig:
    """How a checkpoint is used. Names and values are openpi's where openpi has the config.

    Attributes:
        name: what users write.
        robot: the robot whose requests it answers.
        asset_id: which statistics of the checkpoint to use.
        action_horizon: steps per chunk.
        kind: the kind of model that the checkpoint must be.
        action_dim: width of the model's actions; pi0 and pi0.5 pad the robot's to it.
        max_token_len: prompt slots.
        discrete_state_input: whether pi0.5 reads the state as words of the prompt; pi0 never does,
            pi0-FAST always.
        delta_mask: which actions are relative to the state; empty: none.
        cameras: the robot's camera slots, in the order of the model's prefix.
        blank_cameras_seen: whether a slot without an image is a black picture that is attended to
            (pi0-FAST was trained so on single arms), instead of being masked.
        default_prompt: the task of requests that name none, where the operator names none.
        action_tokens: how pi0-FAST writes actions: compressed by FAST, or one bin per number.
        fast_tokenizer: repository of the FAST tokenizer on the Hugging Face hub.
        checkpoint: where the released weights are; None: there are none, train your own.
        normalization: how state and actions are scaled; ``auto`` takes what the checkpoint says,
            else mean and deviation for pi0, percentiles for pi0.5 and pi0-FAST, as openpi.
        released_normalization: how the weights at ``checkpoint`` were trained, where that is not
            what openpi's config of this name does today.
        trained_with_prefix: whether the checkpoint was trained with known first actions
            (training-time real-time chunking, arXiv 2512.05964); then requests may choose it.
        metadata: sent to clients as it is.
    """

    name: str
    robot: Robot
    asset_id: str
    action_horizon: int
    kind: ModelKind = "pi05"
    action_dim: int = 32
    max_token_len: int = 200
    discrete_state_input: bool = True
    delta_mask: tuple[bool, ...] = ()
    cameras: tuple[str, ...] = CAMERAS
    blank_cameras_seen: bool = False
    default_prompt: str | None = None
    action_tokens: ActionTokens = "fast"
    fast_tokenizer: str = "physical-intelligence/fast"
    checkpoint: str | None = None
    normalization: NormalizationChoice = "auto"
    released_normalization: Scaling | None = None
    trained_with_prefix: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        robot = self.robot
        for name, value in (
            ("action_horizon", self.action_horizon),
            ("action_dim", self.action_dim),
            ("max_token_len", self.max_token_len),
        ):
            if value < 1:
                raise InferenceConfigError(
                    f"config {self.name}: {name} is {value}, expected at least 1"
                )
        if self.normalization not in get_args(NormalizationChoice):
            known = ", ".join(get_args(NormalizationChoice))
            raise InferenceConfigError(
                f"config {self.name}: normalization is {self.normalization!r}, expected one of "
                f"{known}"
            )
        if self.trained_with_prefix and self.kind == "pi0_fast":
            raise InferenceConfigError(
                f"config {self.name}: trained_with_prefix is for pi0 and pi05, got pi0_fast"
            )
        if self.action_dim < len(robot.action_names):
            raise InferenceConfigError(
                f"config {self.name}: action_dim is {self.action_dim}, the robot {robot.name} has "
                f"{len(robot.action_names)} actions"
            )
        state_size = sum(part.size for part in robot.state)
        if len(self.delta_mask) > min(len(robot.action_names), state_size):
            raise InferenceConfigError(
                f"config {self.name}: delta covers {len(self.delta_mask)} dimensions, the robot "
                f"{robot.name} has {state_size} in its state and {len(robot.action_names)} actions"
            )
        unused = [camera.slot for camera in robot.cameras if camera.slot not in self.cameras]
        if unused:
            raise InferenceConfigError(
                f"config {self.name}: the model has no camera {', '.join(unused)}, which the robot "
                f"{robot.name} fills; it has {', '.join(self.cameras)}"
            )

    @property
    def state_in_prompt(self) -> bool:
        """Whether the state is written into the prompt."""
        return self.kind == "pi0_fast" or (self.kind == "pi05" and self.discrete_state_input)

    @property
    def scaling(self) -> Scaling:
        """How openpi's main scales states and actions for this kind of model.

        Source: ``use_quantile_norm`` in ``openpi/training/config.py``.
        """
        return "mean_std" if self.kind == "pi0" else "quantile"
