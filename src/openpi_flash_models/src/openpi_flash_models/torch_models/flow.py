"""pi0 and pi0.5 in PyTorch: actions from images and prompt by flow matching.

    prefix  = [camera 0][camera 1]...[prompt]        once per call
    state   = [robot state]                          once per call, pi0 only
    actions = [action 0 .. action H-1], noisy        once per denoising step

Sources: pi0 (arXiv 2410.24164), pi0.5 (arXiv 2504.16054), and ``openpi/models/pi0.py``. The state
of pi0 attends to the prefix and itself, not to the actions or the time, so that its keys and values
are the same in every step: they are computed once and follow the prefix in the cache.

Shapes: B batch, C cameras, L prompt slots, S prefix slots (= C * patches + L), H horizon, A action
width of the model, D width of the action expert, N denoising steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.torch_models import gemma, siglip

# Periods of the time features; the flow time is in [0, 1].
MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0
SCHEDULES_KEPT = 4  # one of ten steps is 5 MB at pi0.5's size


class Observation(NamedTuple):
    """One batch, on the device.

    Attributes:
        images: [B, C, side, side, 3] uint8, or float32 in [-1, 1].
        image_mask: [B, C] bool.
        tokens: [B, L] int64.
        token_mask: [B, L] bool.
        state: [B, A] float32, normalised; pi0.5 does not read it.
    """

    images: Tensor
    image_mask: Tensor
    tokens: Tensor
    token_mask: Tensor
    state: Tensor


class TimeFeatures(NamedTuple):
    """Features of one flow time alone; each kind of model has one of the two.

    Attributes:
        modulations: pi0.5: those of every layer (attention, feed-forward) in order, then the final
            norm's.
        time_part: pi0: [D] or [R, D] with R = B * H, the time's share of ``action_time_mlp_in``,
            bias included.
    """

    modulations: tuple[gemma.Modulation, ...] = ()
    time_part: Tensor | None = None


@dataclass(frozen=True)
class Schedule:
    """Everything in a call that depends on the number of steps alone.

    Attributes:
        times: of the steps; they run from 1 (noise) to 0 (actions).
        step_size: negative.
        steps: features of ``times``.
        clean: features of time 0, for actions that are known.
    """

    times: tuple[float, ...]
    step_size: float
    steps: tuple[TimeFeatures, ...]
    clean: TimeFeatures


class Prefix(NamedTuple):
    """The results of the prefix pass.

    Attributes:
        caches: per layer; the slots from ``slots`` on are for the actions.
        slots: number of filled slots: S, and one more for the state of pi0.
        bias: [B, 1, 1, all slots], 0 where an action may attend to a slot (:class:`gemma.Place`).
        rotation: of the actions' positions.
    """

    caches: tuple[Tensor, ...]
    slots: int
    bias: Tensor
    rotation: Tensor

    def places(self) -> list[gemma.Place]:
        """The actions' places, per layer."""
        return [gemma.Place(cache, self.rotation, self.slots, self.bias) for cache in self.caches]


@dataclass(frozen=True)
class LayerFunctions:
    """The functions that run one layer: plain ones, or compiled ones.

    They get all weights through their first argument, so that one compiled function serves every
    layer of its kind.
    """

    vision: Callable[..., Tensor] = siglip.run_block
    read: Callable[..., Tensor] = gemma.read_layer
    remember: Callable[..., None] = gemma.remember_layer
    modulated: Callable[..., Tensor] = gemma.modulated_layer


class FlowModel(nn.Module):
    """pi0 or pi0.5, of any size."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        s = shape
        self.shape = s
        self.adaptive = s.kind == "pi05"
        self.vision = siglip.VisionTower(
            patch=s.patch,
            patches=s.image_tokens,
            width=s.vision_width,
            depth=s.vision_depth,
            heads=s.vision_heads,
            mlp=s.vision_mlp,
            out=s.width,
        )
        self.embedding = nn.Parameter(torch.zeros(s.vocabulary, s.width))
        heads = (s.heads, s.key_heads, s.head_width)
        self.language = nn.ModuleList(
            gemma.Layer(s.width, *heads, s.mlp, adaptive=False) for _ in range(s.depth)
        )
        self.expert = nn.ModuleList(
            gemma.Layer(s.expert_width, *heads, s.expert_mlp, adaptive=self.adaptive)
            for _ in range(s.depth)
        )
        self.action_in = nn.Linear(s.action_dim, s.expert_width)
        self.action_out = nn.Linear(s.expert_width, s.action_dim)
        time_in = s.expert_width if self.adaptive else 2 * s.expert_width
        self.time_in = nn.Linear(time_in, s.expert_width)
        self.time_out = nn.Linear(s.expert_width, s.expert_width)
        if self.adaptive:
            # All norms' projections side by side: two per layer in order, then the final norm's.
            self.modulation = nn.Linear(s.expert_width, (2 * s.depth + 1) * 3 * s.expert_width)
        else:
            self.state = nn.Linear(s.action_dim, s.expert_width)
            self.final_norm = nn.Parameter(torch.zeros(s.expert_width))
        self.functions = LayerFunctions()
        self._schedules: OrderedDict[int, Schedule] = OrderedDict()

    @property
    def dtype(self) -> torch.dtype:
        """The towers' type; projections of actions, state and time are float32."""
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.device

    def schedule(self, num_steps: int) -> Schedule:
        """The schedule of a number of steps: computed once, kept for later calls."""
        kept = self._schedules.pop(num_steps, None)
        if kept is None:
            kept = self._make_schedule(num_steps)
        self._schedules[num_steps] = kept
        while len(self._schedules) > SCHEDULES_KEPT:
            self._schedules.popitem(last=False)
        return kept

    def run_prefix(self, observation: Observation, horizon: int) -> Prefix:
        """Run images, prompt and state; reserves slots for ``horizon`` actions after them."""
        x, valid = self._embed(observation)
        batch, slots, _ = x.shape
        own = 0 if self.adaptive else 1
        caches = self._make_caches(batch, slots + own + horizon)
        rotation = self._rotation(valid.cumsum(dim=1) - 1)
        bias = gemma.bias_of(valid[:, None, None, :], self.dtype)
        places = [gemma.Place(cache, rotation, 0, bias) for cache in caches]
        self._remember(self.language, x.flatten(0, 1), places)
        # Tokens after the prefix attend to the prefix and to themselves.
        after = valid.sum(dim=1, keepdim=True) + torch.arange(own + horizon, device=x.device)
        rotation = self._rotation(after)
        if not self.adaptive:
            seen = functional.pad(bias, (0, own))
            places = [gemma.Place(cache, rotation[:, :own], slots, seen) for cache in caches]
            self._remember(self.expert, self.state(observation.state).to(self.dtype), places)
        bias = functional.pad(bias, (0, own + horizon))
        return Prefix(caches, slots + own, bias, rotation[:, own:])

    def velocity(self, prefix: Prefix, x: Tensor, now: TimeFeatures) -> Tensor:
        """The flow [B, H, A] at noisy actions ``x`` [B, H, A], both float32."""
        places = prefix.places()
        rows = self.action_in(x.flatten(0, 1))
        if now.time_part is None:
            hidden = self._think_modulated(rows.to(self.dtype), places, now.modulations)
        else:
            hidden = self._think_plain(rows, places, now.time_part)
        return self.action_out(hidden.float()).view(x.shape)

    def _embed(self, observation: Observation) -> tuple[Tensor, Tensor]:
        images = observation.images
        batch, cameras = images.shape[:2]
        seen = self.vision(images.flatten(0, 1), self.functions.vision)  # all cameras in one call
        per_camera = seen.shape[1]
        seen = seen.view(batch, cameras * per_camera, -1)
        read = functional.embedding(observation.tokens, self.embedding)
        read = (read.float() * self.shape.width**0.5).to(read.dtype)
        valid = torch.cat(
            [observation.image_mask.repeat_interleave(per_camera, dim=1), observation.token_mask],
            dim=1,
        )
        return torch.cat([seen, read], dim=1), valid

    def _make_caches(self, batch: int, slots: int) -> tuple[Tensor, ...]:
        s = self.shape
        shape = (s.depth, batch, slots, 2 * s.key_heads, s.head_width)
        return torch.empty(shape, dtype=self.dtype, device=self.device).unbind()

    def _rotation(self, positions: Tensor) -> Tensor:
        s = self.shape
        return gemma.rotation_of(positions, s.heads, s.key_heads, s.head_width)

    def _remember(self, layers: nn.ModuleList, x: Tensor, places: list[gemma.Place]) -> None:
        """Run tokens for their keys and values alone."""
        *earlier, last = zip(layers, places, strict=True)
        for layer, place in earlier:
            x = self.functions.read(layer, x, place)
        self.functions.remember(last[0], x, last[1])

    def _think_modulated(
        self, h: Tensor, places: list[gemma.Place], modulations: tuple[gemma.Modulation, ...]
    ) -> Tensor:
        for index, (layer, place) in enumerate(zip(self.expert, places, strict=True)):
            pair = modulations[2 * index : 2 * index + 2]
            h = self.functions.modulated(layer, h, place, pair)
        return gemma.modulated_norm(h, modulations[-1])

    def _think_plain(self, rows: Tensor, places: list[gemma.Place], time_part: Tensor) -> Tensor:
        weight = self.time_in.weight[:, : self.shape.expert_width]
        mixed = functional.silu(functional.linear(rows, weight) + time_part)
        h = self.time_out(mixed).to(self.dtype)
        for layer, place in zip(self.expert, places, strict=True):
            h = self.functions.read(layer, h, place)
        return gemma.rms_norm(h, self.final_norm)

    @torch.no_grad()
    def _make_schedule(self, num_steps: int) -> Schedule:
        times, step_size = flow_times(num_steps)
        *steps, clean = self._time_features(np.append(times, np.float32(0)))
        return Schedule(tuple(times.tolist()), step_size, tuple(steps), clean)

    def _time_features(self, times: np.ndarray) -> list[TimeFeatures]:
        width = self.shape.expert_width
        features = torch.from_numpy(sines_and_cosines(times, width)).to(self.device)
        if not self.adaptive:
            parts = functional.linear(features, self.time_in.weight[:, width:], self.time_in.bias)
            return [TimeFeatures(time_part=part) for part in parts]
        condition = functional.silu(self.time_in(features))
        condition = functional.silu(self.time_out(condition))
        flat = self.modulation(condition).view(len(times), -1, 3, width)
        return [
            TimeFeatures(
                tuple(
                    gemma.Modulation(gemma.norm_factor(m[0]), m[1], m[2].to(self.dtype))
                    for m in of_time
                )
            )
            for of_time in flat
        ]


def flow_times(num_steps: int) -> tuple[np.ndarray, float]:
    """Times [N] of the steps and the step size.

    Times are accumulated in float32, as in openpi's sampler: 1, 0.9, 0.79999995, ...
    """
    step_size = np.float32(-1.0) / np.float32(num_steps)
    times = np.empty(num_steps, np.float32)
    time = np.float32(1.0)
    for index in range(num_steps):
        times[index] = time
        time = time + step_size
    return times, float(step_size)


def sines_and_cosines(times: np.ndarray, width: int) -> np.ndarray:
    """Sines and cosines [N, width] float32 of times [N]: ``posemb_sincos`` in openpi's pi0.py."""
    fraction = np.linspace(0.0, 1.0, width // 2)
    periods = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angles = times.astype(np.float64)[:, None] * (2 * np.pi / periods)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
