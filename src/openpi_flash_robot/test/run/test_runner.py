"""runner.py: threads, a real server on a real socket, and a robot that can fail."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from plain_robot import PlainRobot, Told, assert_within_limits, settings_for
from scripted_server import ScriptedServer, sweep

from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.plain import PolicyRunner, RobotFaultError
from openpi_flash_robot.settings.parameter_kinds import ParameterError

pytestmark = pytest.mark.filterwarnings("ignore:server 127.0.0.1")


@pytest.fixture
def server():
    server = ScriptedServer(sweep())
    yield server
    server.stop()


@pytest.fixture
def robot():
    return PlainRobot()


@pytest.fixture
def make(server, robot):
    """A runner that is closed at the end, and what its robot was told."""
    made = []

    def build(robot=robot, *, listeners=None, **changes):
        told = Told()
        settings = settings_for(server.port, **changes)
        runner = PolicyRunner(robot, settings, on_command=told, **(listeners or {}))
        made.append(runner)
        return runner, told, settings

    yield build
    for runner in made:
        runner.close()
    assert not [t for t in threading.enumerate() if t.name in NAMES]


NAMES = ("openpi_flash_decide", "openpi_flash_command", "openpi_flash_read", "openpi_flash_images")


def until(condition, what, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.005)


def stands(told):
    return not told.commands[-1].velocities.any()


def until_held(runner, told):
    """Until it stands for a reason; a busy machine alone may let it stand for a moment."""
    until(lambda: stands(told) and runner.status.state is not State.RUNNING, "a robot that is held")


def test_a_run_moves_the_robot_within_its_limits_and_ends_with_a_robot_that_stands(
    make, robot, server
):
    chunks = []
    runner, told, settings = make(listeners={"on_chunk": chunks.append})
    runner.run(1.5)
    assert runner.status.state is State.PAUSED
    runner.close()  # callbacks come a moment later
    assert stands(told)
    assert robot.positions[0] > 0.2
    assert_within_limits(told, settings)
    assert server.requests[0]["prompt"] == "stack the cubes"
    assert server.requests[0]["observation/image"].shape == (224, 224, 3)
    assert len(chunks) >= 2
    assert robot.stops == 1


def test_the_robot_moves_on_first_actions_while_the_server_computes_the_rest(make, server):
    server.stop()
    server.metadata = server.metadata | {"supports": ["first_actions"]}
    server.start()
    server.rest.clear()
    chunks = []
    runner, told, settings = make(listeners={"on_chunk": chunks.append}, first_actions=20)
    runner.start()
    told.until_moving()
    assert not chunks, "no whole chunk has come"
    assert server.requests[0]["first_actions"] == 20
    server.rest.set()
    until(lambda: len(chunks) >= 2, "whole chunks")
    assert chunks[0].actions.shape == (50, 3)
    runner.close()
    assert_within_limits(told, settings)


def test_a_second_run_goes_on_where_the_first_one_has_ended(make, robot):
    runner, _, _ = make()
    runner.run(1.0)
    before = robot.positions[0]
    runner.run(1.0)
    assert robot.positions[0] > before


def test_a_server_that_is_killed_stops_the_robot_and_one_that_comes_back_moves_it(make, server):
    runner, told, settings = make(request_timeout=0.3)
    runner.start()
    told.until_moving()
    server.stop()
    until_held(runner, told)
    assert runner.status.state in (State.HOLDING, State.DISCONNECTED)
    told.commands.clear()
    server.start()
    told.until_moving()
    assert_within_limits(told, settings)


def test_a_camera_that_hangs_stops_the_robot(make, robot):
    runner, told, settings = make()
    runner.start()
    told.until_moving()
    robot.sees.clear()
    hung = time.monotonic_ns()
    until_held(runner, told)
    assert runner.status.cause is Cause.OBSERVATION
    # of a machine that is busy with other tests; to the millisecond it is held in virtual time
    assert told.last_motion_ns - hung < settings.observation.max_blind_ns + 2_000_000_000
    robot.sees.set()
    told.until_moving()


class RobotWithCameras(PlainRobot):
    """Reads its images apart, as slowly as a test wants."""

    def __init__(self):
        super().__init__()
        self.images_wait = 0.0

    def read(self):
        reading = super().read()
        return type(reading)(reading.positions)

    def read_images(self):
        time.sleep(self.images_wait)
        return {"scene": self.image}


def test_slow_cameras_do_not_delay_commands(make):
    robot = RobotWithCameras()
    robot.images_wait = 0.15
    runner, told, _ = make(robot)
    runner.start()
    told.until_moving()
    told.commands.clear()
    told.until(lambda commands: len(commands) > 40)
    gaps = np.diff([command.stamp_ns for command in told.commands]) / 1e9
    assert np.median(gaps) < robot.images_wait / 2


def test_a_read_that_fails_holds_with_its_reason_and_goes_on_when_it_works_again(make, robot):
    runner, told, _ = make()
    runner.start()
    told.until_moving()
    robot.read_error = OSError("camera 0 is unplugged")
    until_held(runner, told)
    assert runner.status.state is State.HOLDING
    assert runner.status.message.endswith("; read() failed: OSError: camera 0 is unplugged")
    robot.read_error = None
    told.until_moving()


def test_a_command_that_fails_is_a_fault_after_which_nothing_is_commanded(make, robot):
    runner, told, _ = make()
    runner.start()
    told.until_moving()
    robot.command_error = OSError("the bus is gone")
    until(lambda: runner.status.state is State.FAULT, "a fault")
    count = len(told.commands)
    with pytest.raises(RobotFaultError, match="OSError: the bus is gone"):
        runner.run(5.0)
    assert runner.status.message == "the robot cannot be commanded: OSError: the bus is gone"
    assert robot.stops == 1
    assert len(told.commands) == count


def test_a_runner_that_fails_itself_still_brakes(make, monkeypatch):
    runner, told, settings = make()
    runner.start()
    told.until_moving()

    def fail(now):
        raise ZeroDivisionError

    monkeypatch.setattr(runner._drive.bridge, "tick", fail)
    until_held(runner, told)
    assert_within_limits(told, settings)
    with pytest.raises(RobotFaultError, match="the runner failed"):
        runner.run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_robot_that_stands(make, number):
    runner, told, settings = make()

    def press():
        told.until_moving()
        for _ in range(3):  # impatient people press more than once
            os.kill(os.getpid(), number)

    finger = threading.Thread(target=press)
    before = signal.getsignal(number)
    finger.start()
    try:
        runner.run(30)
    finally:
        finger.join()
    runner.close()  # callbacks come a moment later
    assert stands(told)
    assert_within_limits(told, settings)
    assert signal.getsignal(number) is before


def test_a_program_that_ends_without_closing_brakes_all_the_same(server, tmp_path):
    program = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parents[1]), *sys.path]!r}
        from plain_robot import PlainRobot, Told, settings_for
        from openpi_flash_robot.plain import PolicyRunner

        class Robot(PlainRobot):
            speed = 0.0

            def command(self, positions, velocities):
                super().command(positions, velocities)
                self.speed = abs(velocities).max()

            def stop(self):
                print("moves" if self.speed else "stands", flush=True)

        told = Told()
        runner = PolicyRunner(Robot(), settings_for({server.port}), on_command=told)
        runner.start()
        told.until_moving()
        raise SystemExit(3)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, "stands\n"), ended.stderr


def test_hold_lasts_until_reset_and_pause_until_it_is_taken_back(make, server):
    runner, told, _ = make()
    runner.start()
    told.until_moving()
    for stop, go_on, cause in (
        (runner.hold, runner.reset, Cause.HELD),
        (runner.pause, lambda: runner.pause(False), Cause.PAUSED),
    ):
        stop()
        until_held(runner, told)
        assert runner.status.cause is cause
        go_on()
        told.until_moving()
    until(lambda: server.resets == 1, "a reset of the policy")


def test_a_new_prompt_goes_with_the_next_request(make, server):
    runner, told, _ = make()
    runner.start()
    told.until_moving()
    runner.set_prompt("open the drawer")
    until(lambda: server.requests[-1].get("prompt") == "open the drawer", "the new prompt")
    assert runner.status.prompt == "open the drawer"


def test_an_emergency_stop_is_heard_and_lasts_until_reset(make):
    runner, told, _ = make(emergency_stop_topics=["button"], stop_timeout=0.0)
    runner.start()
    until(lambda: runner.status.cause is Cause.EMERGENCY_STOP, "a stop that was not heard yet")
    runner.hear_stop("button", False)
    runner.reset()
    told.until_moving()
    runner.hear_stop("button", True)
    until_held(runner, told)
    assert runner.reset() == "emergency stop button is pressed"


def test_a_state_of_the_robot_stops_it_as_an_emergency_stop_does(make):
    runner, told, _ = make(stop_states=["safety"], stop_state={"safety": {"kind": "ur_robot_mode"}})
    runner.hear_state("safety", 7)
    runner.start()
    told.until_moving()
    runner.hear_state("safety", 5)
    until_held(runner, told)
    assert "is IDLE (5)" in runner.reset()
    with pytest.raises(KeyError):
        runner.hear_state("mode", 7)


class RobotWithWindows(PlainRobot):
    """Its controller holds a window."""

    def __init__(self):
        super().__init__()
        self.windows = []

    def command(self, positions, velocities):
        raise AssertionError("a robot that holds windows is not commanded")

    def command_window(self, window):
        self.windows.append(window)
        self.positions = window.positions[0]


def test_a_controller_that_holds_windows_gets_them_and_each_ends_at_rest(make):
    robot = RobotWithWindows()
    runner, told, _ = make(robot)
    runner.start()
    told.until_moving()
    until(lambda: len(robot.windows) > 20, "windows")
    runner.close()
    for window in robot.windows:
        assert window.times[0] == 0.0
        assert np.all(np.diff(window.times) > 0)
        assert window.times[-1] >= 0.29
        assert not window.velocities[-1].any()
    assert max(np.abs(window.velocities).max() for window in robot.windows) > 0.3


def test_a_callback_that_fails_or_is_slow_delays_nothing(make):
    def slow(_):
        time.sleep(0.3)
        raise ValueError

    runner, told, _ = make(listeners={"on_status": slow, "on_chunk": slow, "on_reading": slow})
    runner.start()
    told.until_moving()
    told.commands.clear()
    told.until(lambda commands: len(commands) > 20)
    gaps = np.diff([command.stamp_ns for command in told.commands]) / 1e9
    assert np.median(gaps) < 0.15


def test_a_dry_run_commands_nothing_and_shows_its_plans(make, robot):
    plans = []
    runner, told, _ = make(dry_run=True, listeners={"on_plan": plans.append})
    runner.start()
    until(lambda: plans, "a plan")
    runner.close()
    assert told.commands == []


def test_a_robot_that_is_told_velocities_and_cannot_be_stopped_otherwise_is_warned_of(make, caplog):
    class Unstoppable:
        read, command = PlainRobot.read, PlainRobot.command

    changes = {"controllers": ["arm"], "controller": {"arm": {"kind": "velocity"}}}
    for robot, count in ((PlainRobot(), 0), (Unstoppable(), 1)):
        runner, _, _ = make(robot, **changes)
        runner.start()
        runner.close()
        told = [r for r in caplog.records if "has neither stop()" in r.message]
        assert len(told) == count


def test_a_closed_runner_cannot_be_started(make):
    runner, _, _ = make()
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.start()


def test_a_server_that_is_no_address_is_refused(robot):
    with pytest.raises(ParameterError, match="parameter server"):
        PolicyRunner(robot, settings_for(server="0.0.0.0"))


def test_a_listener_of_another_name_is_refused(robot):
    with pytest.raises(TypeError, match="on_chunks"):
        PolicyRunner(robot, settings_for(1), on_chunks=print)


def test_a_person_takes_the_robot_leads_it_and_gives_it_back(make, robot):
    runner, told, settings = make(takeover_topic="pedal", teleop_topic="leader", stop_timeout=10.0)
    runner.start()
    told.until_moving()
    runner.hear_takeover(True)
    until(lambda: runner.status.intervention, "the person has the robot")
    name, column = runner.axes[1], 1
    wanted = told.commands[-1].positions[column] - 0.2

    def is_there():
        runner.hear_target([name], [wanted])  # a target that is old leaves the robot standing
        return abs(told.commands[-1].positions[column] - wanted) < 1e-3

    until(is_there, "the target")
    assert_within_limits(told, settings)
    runner.hear_takeover(False)
    told.commands.clear()
    told.until_moving()
    assert not runner.status.intervention
