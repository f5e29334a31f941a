"""What is tried: a task from a start, under a network and a chunk method. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
from openpi_flash_training.evaluation.task_facts import TASK_FACTS
from sim_robot.robot import CUBES

STOP_AND_GO = "stop_and_go"
"""A baseline: the next observation is taken when the steps are played and the robot stands."""

IGNORE_DELAY = "ignore_delay"
"""A baseline: a chunk is played from its step 0 when it comes, however old its observation is."""

METHODS = (*CHUNK_METHODS, STOP_AND_GO, IGNORE_DELAY)


@dataclass(frozen=True)
class Conditions:
    """A network, a robot that does not hear everything, and how chunks are played.

    Attributes:
        method: a chunk method of the robot, or one of the two baselines.
        delay_ms: round trip of the network.
        inference_ms: what the policy takes.
        loss: share of the messages that are lost, 0 to 1; each is sent again after a round trip.
        held: share of the control periods in which no command reaches the arm, 0 to 1; it stays
            where it was told to be before.
        execution_s: how long a chunk is played before the next observation is taken.
        is_real: time and network are the real ones, and the values of delay, inference, loss and
            held mean nothing.
    """

    method: str = "latest"
    delay_ms: float = 0.0
    inference_ms: float = 20.0
    loss: float = 0.0
    held: float = 0.0
    execution_s: float = 0.4
    is_real: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"the chunk method {self.method!r} is not one of {', '.join(METHODS)}")
        for name in ("delay_ms", "inference_ms"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("loss", "held"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to less than 1")


@dataclass(frozen=True)
class Trial:
    """One episode.

    Attributes:
        task: a name of `task_facts.TASK_FACTS`.
        index: of the start; two trials with the same seed and index start alike.
        seed: of all starts.
        cube: that the prompt names, and that success is about; empty where there are no colours.
        conditions: under which.
        is_swapped: whether the prompt names another cube than the plain trial of this start.
        is_filmed: whether pictures are kept.
        is_recorded: whether frames for a dataset are kept.
    """

    task: str
    index: int
    seed: int
    cube: str
    conditions: Conditions
    is_swapped: bool = False
    is_filmed: bool = False
    is_recorded: bool = False

    @property
    def prompt(self) -> str:
        """What the policy is told."""
        return TASK_FACTS[self.task].prompt(self.cube)

    @property
    def plain_cube(self) -> str:
        """The cube of the plain trial of this start."""
        return CUBES[self.index % len(CUBES)]


def trials(
    task: str,
    episodes: int,
    seed: int,
    conditions: Conditions,
    *,
    is_swapped: bool = False,
    filmed: int = 0,
    is_recorded: bool = False,
) -> list[Trial]:
    """Trials of one cell: colours take turns.

    Args:
        task: what is to be done.
        episodes: how many.
        seed: of the starts.
        conditions: of all of them.
        is_swapped: whether each prompt names the next colour instead.
        filmed: how many of the first ones are filmed.
        is_recorded: whether frames for a dataset are kept.
    """
    shift = 1 if is_swapped else 0
    return [
        Trial(
            task,
            index,
            seed,
            CUBES[(index + shift) % len(CUBES)] if TASK_FACTS[task].has_colours else "",
            conditions,
            is_swapped,
            is_filmed=index < filmed,
            is_recorded=is_recorded,
        )
        for index in range(episodes)
    ]


def grid(
    methods: Sequence[str],
    delays_ms: Sequence[float],
    losses: Sequence[float],
    held: Sequence[float],
    *,
    inference_ms: float,
    execution_s: float,
) -> Iterator[Conditions]:
    """Every combination; methods change fastest."""
    for delay, loss, share, method in itertools.product(delays_ms, losses, held, methods):
        yield Conditions(method, delay, inference_ms, loss, share, execution_s)
