"""Who uses a shared device next, in virtual time against a simulated device."""

import heapq
import itertools
import random

import numpy as np
import pytest

from openpi_flash_server.runners.turn_order import LONGEST_HOLD, LONGEST_STEP, TurnOrder

ACTION = 0.050
"""s that the device takes for a chunk of actions."""
EMBED, READ, BLOCK = 0.004, 0.020, 0.008
"""s for the images, the prompt, and a block of tokens of a planner."""
RUN = [("embed", EMBED), ("read", READ), *[("decode", BLOCK)] * 5]
AT_MOST = 1.3
"""The 99th percentile of an action beside a busy planner, of that without one."""
SETTLING = 10
"""A robot's first requests, before its rhythm and the programs' durations are known."""

LEARNING = 3
"""Runs of the planner until the deviations of its steps are known."""


class Device:
    """Robots and a planner that share a device.

    Args:
        robots: s between the requests of each; None: at once after each answer.
        steps: program and duration of the steps of one run of the planner; it runs for ever.
        pause: s between two runs.
        is_awaited: whether somebody waits for every run.
    """

    def __init__(self, robots, *, steps=(), pause=0.0, is_awaited=False, seed=0):
        self.order = TurnOrder()
        self.now = 0.0
        self.latencies = []
        self.runs = 0
        self.longest_run = 0.0
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._agenda = []
        self._waiting = []
        self._acting = self._stepping = False
        self._steps, self._pause, self._is_awaited = list(steps), pause, is_awaited
        self._left = []
        self._ready = False
        for index, period in enumerate(robots):
            self._at(0.013 * index, lambda index=index, period=period: self._ask(index, period))
        if steps:
            self._at(0.0, self._begin_run)

    def run(self, until):
        while self._agenda or self.order.next_look is not None:
            times = [self._agenda[0][0]] if self._agenda else []
            if self.order.next_look is not None and self.order.next_look > self.now:
                times.append(self.order.next_look)
            if not times or min(times) > until:
                return self
            self.now = min(times)
            if self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            self._advance()
        return self

    def p99(self):
        return float(np.percentile(self.latencies[SETTLING:], 99))

    def _at(self, time, act):
        heapq.heappush(self._agenda, (time, next(self._numbers), act))

    def _ask(self, robot, period):
        self.order.action_wanted([(robot, 0)], self.now)
        self._waiting.append((robot, period, self.now))
        if period is not None:
            jitter = self._random.uniform(0.0, 0.04 * period)
            self._at(self.now + period + jitter, lambda: self._ask(robot, period))

    def _begin_run(self):
        self._left = list(self._steps)
        self._began = self.now
        self._make_ready()

    def _make_ready(self):
        self.order.step_ready("run", self._left[0][0], self.now, is_awaited=self._is_awaited)
        self._ready = True

    def _advance(self):
        if self._waiting and not self._acting and self.order.action_is_next(self.now):
            robot, period, since = self._waiting.pop(0)
            self.order.action_started("robots", self.now)
            self._acting = True
            # one device: beside a step that hangs an action takes as long as alone
            self._at(self.now + ACTION, lambda: self._acted(robot, period, since))
        elif self._ready and not self._stepping and self.order.step_is_next("run", self.now):
            assert not self._acting
            self.order.step_started("run", self.now)
            self._ready, self._stepping = False, True
            self._at(self.now + self._left.pop(0)[1], self._stepped)

    def _acted(self, robot, period, since):
        self.order.action_ended("robots", [(robot, 0)], self.now)
        self._acting = False
        self.latencies.append(self.now - since)
        if period is None:
            self._at(self.now + 0.001, lambda: self._ask(robot, None))

    def _stepped(self):
        self.order.step_ended("run", self.now)
        self._stepping = False
        if self._left:
            self._make_ready()
            return
        self.runs += 1
        if self.runs > LEARNING:
            self.longest_run = max(self.longest_run, self.now - self._began)
        self._at(self.now + self._pause, self._begin_run)


ROBOTS = {
    "at 10 Hz": [0.1],
    "at 5 Hz": [0.2],
    "after each answer": [None],
    "four after each answer": [None] * 4,
    "two at 4 Hz": [0.25, 0.25],
}


@pytest.mark.parametrize("robots", ROBOTS)
@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["all the time", "with pauses"])
def test_a_busy_planner_slows_robots_down_by_three_tenths_at_most(robots, pause):
    alone = Device(ROBOTS[robots]).run(120.0)
    beside = Device(ROBOTS[robots], steps=RUN, pause=pause).run(120.0)
    assert beside.p99() <= AT_MOST * alone.p99()
    # and it goes on: a subtask is never older than a few seconds
    assert beside.runs >= 15
    assert beside.longest_run <= LONGEST_HOLD + 2.0


@pytest.mark.parametrize("robots", ROBOTS)
def test_the_first_subtask_of_a_prompt_is_there_soon(robots):
    device = Device(ROBOTS[robots], steps=RUN, pause=1.0, is_awaited=True).run(60.0)
    # each step waits for one action at most, and the last one for the rest of another
    assert device.longest_run <= sum(duration for _, duration in RUN) + len(RUN) * 2 * ACTION
    assert device.runs >= 20


def test_no_step_runs_beside_actions_and_one_waits_for_each():
    order = TurnOrder()
    order.step_ready("run", "read", 0.0, is_awaited=True)
    assert order.step_is_next("run", 0.0)
    order.step_started("run", 0.0)
    order.action_wanted([("arm", 0)], 0.1)
    assert not order.action_is_next(0.1)
    order.step_ended("run", 0.2)
    order.step_ready("run", "decode", 0.2, is_awaited=True)
    assert not order.step_is_next("run", 0.2)
    assert order.action_is_next(0.2)
    order.action_started("arm", 0.2)
    assert not order.step_is_next("run", 0.2)
    order.action_ended("arm", [("arm", 0)], 0.3)
    assert order.step_is_next("run", 0.3)


def test_a_step_that_hangs_delays_one_action_once():
    order = TurnOrder()
    order.step_ready("run", "read", 0.0, is_awaited=False)
    order.step_started("run", 0.0)
    order.action_wanted([("arm", 0)], 0.1)
    assert not order.action_is_next(0.1)
    assert order.next_look == LONGEST_STEP
    assert order.action_is_next(LONGEST_STEP)
    order.action_started("arm", LONGEST_STEP)
    order.action_ended("arm", [("arm", 0)], LONGEST_STEP + ACTION)
    order.action_wanted([("arm", 0)], LONGEST_STEP + 0.1)
    assert order.action_is_next(LONGEST_STEP + 0.1)


def test_of_two_planners_one_runs_a_step_at_a_time():
    order = TurnOrder()
    order.step_ready("former", "read", 0.0, is_awaited=True)
    order.step_ready("other", "read", 0.0, is_awaited=True)
    order.step_started("former", 0.0)
    assert not order.step_is_next("other", 0.1)
    order.step_ended("former", 0.2)
    order.step_ready("former", "decode", 0.2, is_awaited=True)
    assert order.step_is_next("other", 0.2)
    order.step_started("other", 0.2)
    assert not order.step_is_next("former", 0.3)
    order.step_ended("other", 0.4)
    assert order.step_is_next("former", 0.4)


def test_a_planner_goes_on_beside_another_one_that_hangs_and_when_that_comes_back():
    order = TurnOrder()
    order.step_ready("hung", "read", 0.0, is_awaited=True)
    order.step_started("hung", 0.0)
    order.step_ready("other", "read", 0.1, is_awaited=True)
    assert not order.step_is_next("other", 0.1)
    assert order.next_look == LONGEST_STEP
    assert order.step_is_next("other", LONGEST_STEP)
    order.step_started("other", LONGEST_STEP)
    order.step_ended("hung", LONGEST_STEP + 0.1)
    order.action_wanted([("arm", 0)], LONGEST_STEP + 0.1)
    assert not order.action_is_next(LONGEST_STEP + 0.1)
    order.step_ended("other", LONGEST_STEP + 0.2)
    assert order.action_is_next(LONGEST_STEP + 0.2)


def test_the_planner_goes_on_when_a_hanging_batch_is_given_up():
    order = TurnOrder()
    order.action_wanted([("arm", 0)], 0.0)
    order.action_started("former", 0.0)
    order.step_ready("run", "read", 0.1, is_awaited=True)
    assert not order.step_is_next("run", 100.0)
    order.action_given_up("former")
    assert order.step_is_next("run", 100.0)
    # the late end of the batch is that of no other one
    order.action_wanted([("arm", 0)], 100.0)
    order.action_started("other", 100.0)
    order.action_ended("former", [("arm", 0)], 100.0)
    assert not order.step_is_next("run", 100.0)
