"""Plays trials of one or several policies, in the process in which it is made."""

from __future__ import annotations

from collections.abc import Sequence

from openpi_flash_training.evaluation.closed_loop import ClosedLoop
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.film import EpisodeCamera
from openpi_flash_training.evaluation.policy_choice import PolicyChoice, open_choice, open_scene
from openpi_flash_training.evaluation.scene import Scene
from openpi_flash_training.evaluation.trial_result import TrialResult


class TrialPlayer:
    """A scene, cameras, and a connection to each policy, made when the first trial needs them.

    Args:
        choices: the policies.
    """

    def __init__(self, choices: Sequence[PolicyChoice]) -> None:
        self._choices = choices
        self._scene: Scene | None = None
        self._camera = EpisodeCamera()
        self._loops: dict[int, ClosedLoop] = {}

    def play(self, policy: int, trial: Trial) -> TrialResult:
        """Play an episode to its end.

        Args:
            policy: index of one of the choices.
            trial: what to try; all trials are of one scene.

        Raises:
            PolicyFailedError: the policy cannot be asked.
        """
        if self._scene is None:
            self._scene = open_scene(trial.task)
        if policy not in self._loops:
            opened = open_choice(self._choices[policy], self._scene.settings)
            self._loops[policy] = ClosedLoop(opened, self._camera, self._scene)
        return self._loops[policy].run(trial)
