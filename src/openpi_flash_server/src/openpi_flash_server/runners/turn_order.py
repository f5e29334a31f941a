"""Decides whether the action model or a step of the planner uses their device next. Pure.

A planner's run is a sequence of steps: programs of the model that end on their own. While one
planner takes the place of another, both may have runs: one step runs at a time.

- Actions come first: a step starts while no action waits or runs.
- A short step, of at most `SHORT` of an action's time, and a step of a run that somebody waits for
  may start at any such moment, and before a waiting action if one has run since the step was
  ready. So the planner goes on beside robots that keep the device busy, and its refreshes make an
  action longer by that much at most.
- Another step starts only if it will be over when the next action is expected, or when it has been
  ready for `LONGEST_HOLD`.
- A step that runs longer than `LONGEST_STEP` hangs: actions no longer wait for it.

The order of calls: `action_wanted`, `action_started`, `action_ended` for every batch of actions of
a runner, `action_given_up` for a runner that hangs; `step_ready`, `step_started`, `step_ended` for
every step of a run. Something starts when its `is_next` says so, which is asked after every change
and at `next_look`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from openpi_flash_server.slot.forecast import Arrivals, Durations

SHORT = 0.2
"""Of an action's time."""

LONGEST_HOLD = 5.0
"""s that a long step waits for a gap, as a request of a lower class does in `slot/scheduler.py`."""

LONGEST_STEP = 1.0
"""s; a model's program takes some hundredths of a second on a GPU."""


@dataclass(slots=True)
class _Ready:
    """A step that may start; `passed` actions ran since then."""

    program: str
    is_awaited: bool
    since: float
    passed: int = 0


class TurnOrder:
    """The turns of one device, which runs batches of actions and a planner."""

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self._action_time = Durations()
        self._step_times: defaultdict[str, Durations] = defaultdict(Durations)
        self._waiting = 0
        # by runner, and by run of a planner
        self._acting: dict[Hashable, float] = {}
        self._ready: dict[Hashable, _Ready] = {}
        self._steps: dict[Hashable, tuple[str, float]] = {}
        self._look_at: float | None = None

    def action_wanted(self, sessions: Sequence[tuple[Hashable, int]], now: float) -> None:
        """A batch of actions is to run; `sessions` with the ranks of their classes."""
        self._waiting += 1
        for session, rank in sessions:
            self._arrivals.arrived(session, rank, now)

    def action_is_next(self, now: float) -> bool:
        """Whether a waiting batch of actions may start."""
        self._look_at = self._hangs_from(now)
        if self._look_at is not None:
            return False
        return not any(self._goes_before_actions(ready, now) for ready in self._ready.values())

    def action_started(self, runner: Hashable, now: float) -> None:
        """A batch of actions runs."""
        self._waiting -= 1
        self._acting[runner] = now

    def action_ended(
        self, runner: Hashable, sessions: Sequence[tuple[Hashable, int]], now: float
    ) -> None:
        """The batch of the runner has run."""
        started = self._acting.pop(runner, None)
        if started is None:
            return
        self._action_time.ran(1, now - started)
        for ready in self._ready.values():
            ready.passed += 1
        for session, _ in sessions:
            self._arrivals.answered(session, now)

    def action_given_up(self, runner: Hashable) -> None:
        """The batch of the runner hangs, and another runner has taken its place."""
        self._acting.pop(runner, None)

    def step_ready(self, run: Hashable, program: str, now: float, *, is_awaited: bool) -> None:
        """The next step of a planner's run could start.

        Args:
            run: which.
            program: its kind; steps of a kind take about as long.
            now: the time.
            is_awaited: whether somebody waits for the subtask.
        """
        self._ready[run] = _Ready(program, is_awaited, now)

    def step_is_next(self, run: Hashable, now: float) -> bool:
        """Whether the step of the run may start."""
        self._look_at = None
        if self._acting:
            return False
        self._look_at = self._hangs_from(now)
        if self._look_at is not None:
            return False
        ready = self._ready[run]
        if self._waiting:
            self._look_at = ready.since + LONGEST_HOLD
            return self._goes_before_actions(ready, now)
        return self._is_prompt(ready) or self._finds_a_gap(ready, now)

    def step_started(self, run: Hashable, now: float) -> None:
        """It runs."""
        self._steps[run] = self._ready.pop(run).program, now

    def step_ended(self, run: Hashable, now: float) -> None:
        """It has run."""
        program, started = self._steps.pop(run)
        self._step_times[program].ran(1, now - started)

    @property
    def next_look(self) -> float | None:
        """When to ask again for what was refused last, if nothing happens; None: not before."""
        return self._look_at

    def _hangs_from(self, now: float) -> float | None:
        """When the step that runs will count as one that hangs; None if none runs or it does."""
        times = (started + LONGEST_STEP for _, started in self._steps.values())
        return max((time for time in times if now < time), default=None)

    def _goes_before_actions(self, ready: _Ready, now: float) -> bool:
        return (ready.passed > 0 and self._is_prompt(ready)) or self._was_held(ready, now)

    def _is_prompt(self, ready: _Ready) -> bool:
        """Whether the step needs no gap between actions: it is awaited, short or a first one."""
        action, step = self._action_time.expected(1), self._step_times[ready.program].expected(1)
        return ready.is_awaited or action is None or step is None or step <= SHORT * action

    def _was_held(self, ready: _Ready, now: float) -> bool:
        return now >= ready.since + LONGEST_HOLD

    def _finds_a_gap(self, ready: _Ready, now: float) -> bool:
        duration = self._step_times[ready.program].expected(1)
        expected = list(self._arrivals.expected(now))
        if duration is None or not expected or self._was_held(ready, now):
            return True
        if now + duration <= min(one.earliest for one in expected):
            return True
        latest = min(one.latest for one in expected)
        self._look_at = min(ready.since + LONGEST_HOLD, math.nextafter(latest, math.inf))
        return False
