"""Noise on what the expert does, so that demonstrations show how it comes back to its way.

DART (Laskey et al. 2017, "DART: Noise Injection for Robust Imitation Learning"): the noisy command
is played, and what the expert would have done is the label. Here the noise is an Ornstein-Uhlenbeck
process that comes in bursts, so that an episode also shows the end of the task undisturbed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NoiseSettings:
    """How commands are disturbed.

    Attributes:
        sigma: range of the standard deviation of an episode, rad in each joint of the arm.
        memory_s: time constant.
        burst_s: how long a burst lasts in the mean, and how long the pause after it.
        calm_share: share of the episodes without noise.
    """

    sigma: tuple[float, float] = (0.03, 0.08)
    memory_s: float = 0.3
    burst_s: tuple[float, float] = (0.4, 1.0)
    calm_share: float = 0.15


class CommandNoise:
    """Offsets of the commands of one episode, the same for the same generator.

    Args:
        settings: how much.
        rng: of the episode.
        joints: how many are disturbed.
        step_s: seconds between commands.
    """

    def __init__(
        self, settings: NoiseSettings, rng: np.random.Generator, joints: int, step_s: float
    ) -> None:
        self._rng = rng
        self._step_s = step_s
        self._settings = settings
        is_calm = rng.random() < settings.calm_share
        self._sigma = 0.0 if is_calm else float(rng.uniform(*settings.sigma))
        self._is_burst = bool(rng.random() < 0.5)
        self._value = np.zeros(joints)

    def next(self) -> NDArray[np.float64]:
        """The offset of the next command, rad, [joints]."""
        mean_s = self._settings.burst_s[0 if self._is_burst else 1]
        if self._rng.random() < self._step_s / mean_s:
            self._is_burst = not self._is_burst
        decay = math.exp(-self._step_s / self._settings.memory_s)
        fresh = self._rng.standard_normal(len(self._value))
        self._value = decay * self._value + self._sigma * math.sqrt(1 - decay**2) * fresh
        return self._value * (1.0 if self._is_burst else 0.0)
