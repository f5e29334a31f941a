"""LeRobot's policies from their own checkpoints: ACT, diffusion, SmolVLA and others.

Needs the extra `lerobot` of this package. Interfaces: LeRobot 0.6, `lerobot/policies/factory.py`
(`get_policy_class`, `make_pre_post_processors`) and `pretrained.py` (`predict_action_chunk`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_models.text.task import task_of
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.own_policy.lerobot_batch import Feature, batch_of


class LeRobotPolicy:
    """A policy of LeRobot with openpi's `infer`.

    A request has the features under LeRobot's own keys: `observation.state` [D], and
    `observation.images.NAME` uint8 [H, W, 3] for each camera; `prompt` is LeRobot's task. LeRobot's
    processors scale and tokenize them, and scale the actions back.

    Args:
        checkpoint: the directory that LeRobot's `save_pretrained` wrote: config.json,
            model.safetensors, policy_preprocessor.json, policy_postprocessor.json.
        default_prompt: the task of requests that name none.
        device: such as `cuda:0` or `cpu`; None: LeRobot chooses.

    Raises:
        PolicyLoadError: LeRobot is not installed, or cannot load the checkpoint.
    """

    def __init__(
        self, checkpoint: str, *, default_prompt: str | None = None, device: str | None = None
    ) -> None:
        try:
            import torch
            from lerobot.configs import PreTrainedConfig
            from lerobot.policies.factory import get_policy_class, make_pre_post_processors
        except ImportError as error:
            raise PolicyLoadError(
                f"LeRobot cannot be imported ({error}); it needs Python 3.12 or later and "
                "pip install './src/openpi_flash_server[lerobot]', with the extra of LeRobot that "
                "the policy needs, such as lerobot[smolvla]"
            ) from None
        self._torch = torch
        self._default_prompt = default_prompt
        try:
            config = PreTrainedConfig.from_pretrained(checkpoint)
            if device is not None:
                config.device = device
            self._policy = get_policy_class(config.type).from_pretrained(checkpoint, config=config)
            # the processors remember the device of the training
            self._before, self._after = make_pre_post_processors(
                config,
                pretrained_path=checkpoint,
                preprocessor_overrides={"device_processor": {"device": config.device}},
            )
        except Exception as error:
            raise PolicyLoadError(
                f"LeRobot cannot load {checkpoint}: {type(error).__name__}: {error}"
            ) from error
        self._features = tuple(
            Feature(key, tuple(feature.shape), key in config.image_features)
            for key, feature in config.input_features.items()
        )
        indices = config.observation_delta_indices
        self._steps = None if indices is None else len(indices)
        # only these read the task
        self._reads_task = any("Tokenizer" in type(s).__name__ for s in self._before.steps)
        self._type = str(config.type)

    @property
    def metadata(self) -> dict[str, Any]:
        """The features as inputs. LeRobot's checkpoints name neither joints nor units."""
        inputs: list[dict[str, Any]] = [
            {
                "path": [feature.key],
                "kind": "image" if feature.is_image else "vector",
                "shape": list(feature.request_shape),
            }
            for feature in self._features
        ]
        if self._reads_task:
            inputs.append(
                {"path": ["prompt"], "kind": "text", "required": not self._default_prompt}
            )
        return {"model": f"lerobot {self._type}", "inputs": inputs}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """`actions` [H, D] in the robot's units: the whole chunk that the policy predicts.

        Raises:
            ObservationError: a feature or the task is missing, or of another shape.
        """
        batch: dict[str, Any] = {
            key: self._torch.from_numpy(array)
            for key, array in batch_of(observation, self._features, self._steps).items()
        }
        task = task_of(observation, self._default_prompt) if self._reads_task else ""
        batch["task"] = [task]
        with self._torch.inference_mode():
            chunk = self._policy.predict_action_chunk(self._before(batch))
            actions = self._after(chunk)
        return {"actions": np.asarray(actions[0].float().cpu())}

    def reset(self) -> None:
        """Starts a new episode."""
        self._policy.reset()
        self._before.reset()
        self._after.reset()
