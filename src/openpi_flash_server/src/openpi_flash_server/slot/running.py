"""The batches that a slot has given to its runners, and which of them take too long. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_server.slot.runner import Runner
from openpi_flash_server.slot.scheduler import Piece
from openpi_flash_server.slot.ticket import Ticket


@dataclass(eq=False, slots=True)
class Run:
    """A batch that runs. Runs are compared by identity.

    Attributes:
        runner: where.
        pieces: what.
        give_up_at: when it is given up, monotonic s; infinite for never.
    """

    runner: Runner
    pieces: Sequence[Piece[Ticket]]
    give_up_at: float


class Running:
    """The batches of one slot.

    Args:
        limit: how long a batch may run, s; None for ever.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = math.inf if limit is None else limit
        self._runs: set[Run] = set()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run: Run) -> bool:
        return run in self._runs

    def on(self, runner: Runner) -> int:
        """How many batches are under way on `runner`."""
        return sum([run.runner is runner for run in self._runs])

    def start(self, runner: Runner, pieces: Sequence[Piece[Ticket]], now: float) -> Run:
        """A batch begins."""
        run = Run(runner, pieces, now + self.limit)
        self._runs.add(run)
        return run

    def end(self, run: Run) -> None:
        """Its requests are answered."""
        self._runs.discard(run)

    def give_up(self, now: float) -> list[Run]:
        """Forgets the batches that take too long, and returns them."""
        late = [run for run in self._runs if now >= run.give_up_at]
        self._runs.difference_update(late)
        return late

    def next_give_up(self) -> float:
        """When `give_up` would return something, if nothing ends before; infinite for never."""
        return min([run.give_up_at for run in self._runs], default=math.inf)
