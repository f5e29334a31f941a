"""Two threads that share a device: the model of the actions, and a planner."""

import contextlib
import threading

import pytest
from server_fakes import WAIT, FakePlanner, FakePolicy, make_work

from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.planning import PlannerHandler
from openpi_flash_server.runners import turn_order
from openpi_flash_server.runners.device_turns import DeviceTurns
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.session import PlanSession


class Log:
    """What happened on the device, in order."""

    def __init__(self):
        self.lines = []
        self._added = threading.Condition()

    def add(self, line):
        with self._added:
            self.lines.append(line)
            self._added.notify_all()

    def wait_for(self, line):
        with self._added:
            assert self._added.wait_for(lambda: line in self.lines, WAIT)


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def act(log):
    """Starts an action on its own thread, beside a planner that uses the same turns."""
    runners = []

    def start(turns, name="action"):
        class Policy(FakePolicy):
            def infer(self, observation, controls=None):
                log.add(name)
                return super().infer(observation, controls)

        runner = OwnThread("slot-action", ActionHandler(Policy()), turns=turns)
        runners.append(runner)
        runner.start([make_work()], lambda ran: log.add(f"{name} answered"))

    yield start
    for runner in runners:
        assert runner.close(WAIT)


def test_an_action_goes_between_the_steps_of_a_planner(log, act):
    class Planner(FakePlanner):
        def plan_in_turns(self, observation, *, prompt, turn, prompt_format=None):
            for step in ("read", "decode"):
                with turn(step):
                    log.add(step)
                    if step == "read":
                        act(turns)
                        assert "action" not in log.lines
            return self.plan(observation, prompt=prompt)

    turns = DeviceTurns()
    PlannerHandler(Planner(), default_prompt="go", turns=turns).handle(make_work())
    assert log.lines == ["read", "action", "action answered", "decode"]


def test_a_planner_without_steps_runs_whole(log, act):
    class Planner(FakePlanner):
        def plan(self, observation, *, prompt, prompt_format=None):
            act(turns)
            log.add("plan")
            return super().plan(observation, prompt=prompt)

    turns = DeviceTurns()
    PlannerHandler(Planner(), default_prompt="go", turns=turns).handle(make_work())
    log.wait_for("action answered")
    assert log.lines == ["plan", "action", "action answered"]


def test_a_planner_that_hangs_in_a_step_stops_no_action(log, act, monkeypatch):
    monkeypatch.setattr(turn_order, "LONGEST_STEP", 0.01)
    turns = DeviceTurns()
    with turns.step("read", is_awaited=True):
        act(turns, "first")
        log.wait_for("first answered")
        act(turns, "second")
        log.wait_for("second answered")


def test_a_step_that_fails_gives_its_turn_back(log, act):
    turns = DeviceTurns()
    with contextlib.suppress(RuntimeError), turns.step("read", is_awaited=True):
        raise RuntimeError("out of memory")
    act(turns)
    log.wait_for("action answered")


@pytest.mark.parametrize(
    ("session", "is_awaited"),
    [
        ("robot", True),
        (PlanSession("robot", 0, is_awaited=True), True),
        (PlanSession("robot", 0, is_awaited=False), False),
    ],
)
def test_only_a_refresh_is_awaited_by_nobody(session, is_awaited):
    class Turns:
        def step(self, program, *, is_awaited):
            seen.append(is_awaited)
            return contextlib.nullcontext()

    seen = []
    handler = PlannerHandler(FakePlanner(), default_prompt="go", turns=Turns())
    handler.handle(make_work(session=session))
    assert seen == [is_awaited]
