"""Calls one after the other, each timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from openpi_flash_server.probe.spread import Spread, spread_of

if TYPE_CHECKING:
    from flash_transport import CallStats, PolicyClient

SERVER_TIMES = ("decode_ms", "queue_ms", "infer_ms")
"""The entries of `server_timing` that follow one another; their sum is the server's time."""


@dataclass
class Calls:
    """What calls cost, in the order of the calls; times in ms.

    Attributes:
        total_ms: from the observation to the answer, packing included.
        server_ms: by the names of `SERVER_TIMES`, as the server says; empty where it does not.
        first_action_ms: from the packed observation to the first action, where that was asked for.
        ahead: how many calls had their first actions ahead of the rest.
        bytes_up: of one request.
        bytes_down: of one answer.
        failures: of the calls that were not answered, or wrongly: what happened.
        answer: the last.
        interrupted: whether Ctrl-C ended them early.
    """

    total_ms: list[float] = field(default_factory=list)
    server_ms: dict[str, list[float]] = field(default_factory=dict)
    first_action_ms: list[float] = field(default_factory=list)
    ahead: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    failures: list[str] = field(default_factory=list)
    answer: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def count(self) -> int:
        """How many calls ended."""
        return len(self.total_ms) + len(self.failures)

    def spreads(self) -> dict[str, Spread]:
        """The spread of each time by its name: total, network, and the server's parts.

        `first` is the time to the first action, where it was asked for.
        `network` is what the server does not account for: the way there and back, and packing.
        """
        parts = {"total": self.total_ms}
        complete = all(len(self.server_ms.get(n, ())) == len(self.total_ms) for n in SERVER_TIMES)
        if self.total_ms and complete:
            sums = map(sum, zip(*(self.server_ms[name] for name in SERVER_TIMES), strict=True))
            # two clocks: a difference below zero is their rounding
            network = (max(0.0, t - s) for t, s in zip(self.total_ms, sums, strict=True))
            parts["network"] = list(network)
        parts["first"] = self.first_action_ms
        parts |= {name.removesuffix("_ms"): times for name, times in self.server_ms.items()}
        found = {name: spread_of(times) for name, times in parts.items()}
        return {name: spread for name, spread in found.items() if spread is not None}


def call(
    client: PolicyClient,
    observation: dict[str, Any],
    calls: Calls,
    *,
    count: int,
    timeout: float,
    problem_of: Callable[[Mapping[str, Any]], str],
    first_actions: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Calls the server `count` times; a failed call does not end it, Ctrl-C does.

    Args:
        client: of the server.
        observation: what is sent.
        calls: takes what they cost.
        count: of calls.
        timeout: for each call, s.
        problem_of: what is wrong with an answer, or empty.
        first_actions: steps that are wanted ahead of the rest; None for none.
        clock: s.
    """
    from flash_transport import FlashTransportError

    try:
        for _ in range(count):
            started = clock()
            try:
                if first_actions is None:
                    answer, stats = client.infer_with_stats(observation, timeout)
                    problem = ""
                else:
                    answer, stats, problem = _submit(client, observation, timeout, first_actions)
            except FlashTransportError as error:
                calls.failures.append(f"{type(error).__name__}: {error}")
                continue
            elapsed = (clock() - started) * 1000
            calls.answer, calls.bytes_up = answer, stats.bytes_up
            calls.bytes_down = stats.bytes_down
            if problem := problem or problem_of(answer):
                calls.failures.append(problem)
                continue
            calls.total_ms.append(elapsed)
            if first_actions is not None:
                calls.first_action_ms.append(stats.first_action_ms)
                calls.ahead += stats.first_action_ms < stats.round_trip_ms
            timing = answer.get("server_timing")
            for name in SERVER_TIMES:
                if isinstance(timing, Mapping) and isinstance(timing.get(name), int | float):
                    calls.server_ms.setdefault(name, []).append(float(timing[name]))
    except KeyboardInterrupt:
        calls.interrupted = True


def _submit(
    client: PolicyClient, observation: dict[str, Any], timeout: float, steps: int
) -> tuple[dict[str, Any], CallStats, str]:
    """The answer to a request that wants first actions, its cost, and what is wrong with them."""
    future = client.submit(observation, timeout, first_actions=steps)
    try:
        answer = future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
    assert future.stats is not None
    assert future.first_actions is not None
    first: Any = future.first_actions.result().get("actions")
    whole = answer.get("actions")
    if isinstance(whole, np.ndarray) and not np.array_equal(first, whole[:steps]):
        return answer, future.stats, "the first actions are not those of the answer"
    return answer, future.stats, ""
