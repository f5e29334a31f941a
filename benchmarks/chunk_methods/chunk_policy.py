"""A flow-matching policy whose velocity is known exactly: two ways past each obstacle.

A hand goes along x past obstacles, and passes each on the left or on the right (y). A chunk is
drawn from a mixture of two Gaussians, one for each side, with smooth deviations from chunk to
chunk. For such a distribution the velocity of flow matching has a closed form, so that real-time
chunking runs by the formulas of the models themselves (`openpi_flash_models`), without a network.
As long as the hand is in the middle both sides are equally likely: chunks that follow each other
disagree, as in the motivation of Black et al. 2025 (arXiv 2506.07339, figure 2).

Shapes: H horizon, A = 2 axes (x, y), M = 2 modes. Model space is relative to the observed state
and divided by `SCALE`, as openpi's relative actions are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from openpi_flash_models.actions.rtc import (
    DEFAULT_RTC,
    Guidance,
    RtcControls,
    RtcOptions,
    guidance_of,
    no_guidance,
)
from openpi_flash_models.jax_models.flow import guided_velocity

Array = NDArray[np.float64]

HORIZON, STEP_S, FLOW_STEPS = 50, 0.04, 10
SPEED = 0.25
"""m/s along x."""
FIRST_OBSTACLE, OBSTACLE_SPACING, HALF_WIDTH, SIDE = 0.75, 1.25, 0.3, 0.15
"""m: where the obstacles are, how long a way past one is, and how far to the side."""
UNDECIDED = 0.04
"""m; a hand that is nearer to both ways than this may still take either."""
RETURN_S = 0.3
"""Time constant of the way back to what the policy wants."""
DEVIATION, DEVIATION_S, JITTER = 0.008, 0.6, 2e-4
"""Of a chunk from the mean: m, over how many seconds it changes, and of each step alone, m."""
SCALE = 0.3
"""m for one unit of the model's space."""

TIMES = (np.arange(HORIZON) * STEP_S).astype(np.float64)


@dataclass(frozen=True)
class Course:
    """What the policy is to do.

    Attributes:
        has_obstacles: whether there are any to pass.
        goal_y: where the hand should be where no obstacle is, m.
    """

    has_obstacles: bool = True
    goal_y: float = 0.0


def side_way(x: Array) -> Array:
    """How far to the side a way is at places along x, m; of the way on the left."""
    nearest = np.round((x - FIRST_OBSTACLE) / OBSTACLE_SPACING)
    away = x - (FIRST_OBSTACLE + np.maximum(nearest, 0.0) * OBSTACLE_SPACING)
    bump = np.cos(np.pi * away / (2.0 * HALF_WIDTH)) ** 2
    return np.where(np.abs(away) < HALF_WIDTH, SIDE * bump, 0.0)


class ChunkPolicy:
    """Draws chunks; the n-th one is the same for the same seed, state and previous chunk.

    Args:
        seed: of all its noise.
        course: what to do.
    """

    def __init__(self, seed: int, course: Course) -> None:
        self._seed = seed
        self.course = course

    def chunk(
        self,
        number: int,
        state: Array,
        controls: RtcControls | None = None,
        options: RtcOptions = DEFAULT_RTC,
    ) -> Array:
        """A chunk of absolute positions, [H, A], m.

        Args:
            number: of this chunk, for its noise.
            state: the observed position, [A], m.
            controls: of the request, in m.
            options: how the previous chunk guides this one.
        """
        means, log_weights = self._modes(state)
        noise = np.random.default_rng((self._seed, number)).standard_normal((1, HORIZON, 2))
        guidance = no_guidance(1, HORIZON, 2)
        if controls is not None:
            known = (np.asarray(controls.previous_actions) - state) / SCALE
            guidance = guidance_of(known, controls, options.schedule, horizon=HORIZON, action_dim=2)
        means = (means - state) / SCALE
        if guidance.is_prefix:
            made = sample_behind_prefix(means, log_weights, noise[0], guidance)
        else:
            made = np.asarray(
                sample_guided(
                    jnp.asarray(means, jnp.float32),
                    jnp.asarray(log_weights, jnp.float32),
                    jnp.asarray(noise, jnp.float32),
                    guidance,
                    jnp.float32(options.max_guidance),
                    is_full=options.method == "vjp",
                )
            )[0]
        return state + SCALE * np.asarray(made, dtype=np.float64)

    def _modes(self, state: Array) -> tuple[Array, Array]:
        """The mean of each mode, [M, H, A] in m, and the logarithm of its weight, [M]."""
        x = state[0] + SPEED * TIMES
        fading = np.exp(-TIMES / RETURN_S)
        ways = np.stack([np.zeros(HORIZON), np.zeros(HORIZON)]) + self.course.goal_y
        here = np.zeros(2) + self.course.goal_y
        if self.course.has_obstacles:
            signs = np.array([1.0, -1.0])
            ways = ways + signs[:, np.newaxis] * side_way(x)
            here = here + signs * side_way(state[:1])[0]
        y = ways + (state[1] - here)[:, np.newaxis] * fading
        means = np.stack([np.broadcast_to(x, y.shape), y], axis=2)
        return means, -((state[1] - here) ** 2) / (2.0 * UNDECIDED**2)


def _covariance() -> Array:
    """Of the deviations of a chunk from its mode's mean, model space, [H, H]."""
    apart = np.sqrt(3.0) * np.abs(TIMES[:, np.newaxis] - TIMES) / DEVIATION_S
    smooth = DEVIATION**2 * (1.0 + apart) * np.exp(-apart)
    covariance: Array = (smooth + JITTER**2 * np.eye(HORIZON)) / SCALE**2
    return covariance


COVARIANCE = _covariance()
VARIANCES, BASIS = np.linalg.eigh(COVARIANCE)


@partial(jax.jit, static_argnames=("is_full",))
def sample_guided(
    means: jax.Array,
    log_weights: jax.Array,
    noise: jax.Array,
    guidance: Guidance,
    max_guidance: jax.Array,
    *,
    is_full: bool,
) -> jax.Array:
    """Denoise a chunk [1, H, A], guided by the models' own rule."""
    basis = jnp.asarray(BASIS, jnp.float32)
    variances = jnp.asarray(VARIANCES, jnp.float32)
    modes = jnp.einsum("ij,mia->mja", basis, means)

    def flow(x: jax.Array, time: float) -> jax.Array:
        """The exact velocity: noise minus actions, given what is seen of both."""
        played = 1.0 - time
        seen = jnp.einsum("ij,ia->ja", basis, x[0])
        spread = (played**2 * variances + time**2)[:, jnp.newaxis]
        off = seen - played * modes
        likelihood = -0.5 * (off**2 / spread).sum(axis=(1, 2))
        weights = jax.nn.softmax(log_weights + likelihood)
        gain = played * variances[:, jnp.newaxis] / spread
        clean = jnp.einsum("m,mja->ja", weights, modes + gain * off)
        return (x - jnp.einsum("ij,ja->ia", basis, clean)[jnp.newaxis]) / time

    x = noise
    for index in range(FLOW_STEPS):
        time = 1.0 - index / FLOW_STEPS
        velocity = guided_velocity(
            partial(flow, time=time),
            x,
            jnp.float32(time),
            guidance,
            max_guidance,
            full=is_full,
        )
        x = x - velocity / FLOW_STEPS
    return x


def sample_behind_prefix(
    means: Array, log_weights: Array, noise: Array, guidance: Guidance
) -> Array:
    """Denoise a chunk [H, A] behind known steps, as a model that learned this perfectly would.

    Known steps have flow time 0 and stay what they are; the others are denoised given them.
    """
    frozen = guidance.frozen[0]
    x = np.where(frozen[:, np.newaxis], guidance.target[0], noise).astype(np.float64)
    for index in range(FLOW_STEPS):
        time = 1.0 - index / FLOW_STEPS
        times = np.where(frozen, 0.0, time)
        played = 1.0 - times
        seen = played[:, np.newaxis] * COVARIANCE * played + np.diag(times**2)
        off = x - played[:, np.newaxis] * means
        solved: Any = np.linalg.solve(seen, off.transpose(1, 0, 2).reshape(HORIZON, -1))
        solved = solved.reshape(HORIZON, len(means), -1).transpose(1, 0, 2)
        likelihood = log_weights - 0.5 * (off * solved).sum(axis=(1, 2))
        weights = np.exp(likelihood - likelihood.max())
        clean = means + np.einsum("ij,mja->mia", COVARIANCE * played, solved)
        clean = np.einsum("m,mia->ia", weights / weights.sum(), clean)
        step = np.where(frozen[:, np.newaxis], 0.0, (x - clean) / time)
        x = x - step / FLOW_STEPS
    return x
