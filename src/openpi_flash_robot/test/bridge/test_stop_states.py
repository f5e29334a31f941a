"""stop_inputs.py and stop_states.py: what a driver says of its robot stops it."""

import pytest
from bridge_world import MS, World, comes_to_rest, moving

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.bridge.stop_inputs import StopInputs
from openpi_flash_robot.settings.node_settings import StopSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.stop_states import StopState, StopStateKind, said_by

UR = StopState("safety", StopStateKind.UR_SAFETY_MODE, "/ur/safety_mode", 0)
FRANKA = StopState("mode", StopStateKind.FRANKA_ROBOT_STATE, "/franka/state", 500 * MS)
NORMAL, PROTECTIVE_STOP, MOVE, USER_STOPPED = 1, 3, 2, 5


@pytest.mark.parametrize(
    ("kind", "moves", "stops"),
    [
        (StopStateKind.UR_SAFETY_MODE, {1, 2}, {0, *range(3, 14), 99}),
        (StopStateKind.UR_ROBOT_MODE, {7}, {-1, *range(7), 8, 99}),
        (StopStateKind.ROBOT_PROGRAM_RUNNING, {1}, {0}),
        (StopStateKind.FRANKA_ROBOT_STATE, {1, 2}, {0, 3, 4, 5, 6, 99}),
    ],
)
def test_only_the_modes_in_which_a_robot_takes_commands_let_it_move(kind, moves, stops):
    assert not any(said_by(kind, value).stops for value in moves)
    assert all(said_by(kind, value).stops for value in stops)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (StopStateKind.UR_SAFETY_MODE, 3, "PROTECTIVE_STOP (3)"),
        (StopStateKind.UR_SAFETY_MODE, 13, "SYSTEM_THREE_POSITION_ENABLING_STOP (13)"),
        (StopStateKind.UR_ROBOT_MODE, -1, "NO_CONTROLLER (-1)"),
        (StopStateKind.UR_ROBOT_MODE, 7, "RUNNING (7)"),
        (StopStateKind.FRANKA_ROBOT_STATE, 5, "USER_STOPPED (5)"),
        (StopStateKind.FRANKA_ROBOT_STATE, 77, "not known (77)"),
    ],
)
def test_a_value_is_told_by_its_name(kind, value, text):
    assert said_by(kind, value).text == text


def stops_of(*states):
    return StopInputs(StopSettings(states=states))


def test_a_state_that_was_not_heard_stops_the_robot():
    assert stops_of(UR).problem(0).message == (
        "robot state /ur/safety_mode was not heard yet, and counts as a stop"
    )


def test_a_state_on_change_holds_as_long_as_somebody_publishes_it():
    stops = stops_of(UR)
    stops.hear_state(0, "safety", said_by(UR.kind, NORMAL))
    stops.look_at_publishers({"safety": 1})
    assert stops.problem(3_600_000 * MS) is None
    stops.look_at_publishers({"safety": 0})
    assert stops.problem(3_600_000 * MS).message == (
        "robot state /ur/safety_mode has no publisher any more, and counts as a stop; it was "
        "NORMAL (1)"
    )


def test_a_state_that_is_published_all_the_time_must_not_fall_silent():
    stops = stops_of(FRANKA)
    stops.hear_state(0, "mode", said_by(FRANKA.kind, MOVE))
    assert stops.problem(500 * MS) is None
    assert "is silent for 0.60 s, its timeout is 0.50 s" in stops.problem(600 * MS).message
    stops.hear_state(700 * MS, "mode", said_by(FRANKA.kind, USER_STOPPED))
    assert stops.problem(700 * MS).message == "robot state /franka/state is USER_STOPPED (5)"


def test_a_protective_stop_brakes_the_arm_which_waits_for_a_person(settings, replace):
    world = World(replace(settings, stops=StopSettings(states=(UR,))))
    world.bridge.hear_state(world.now, "safety", said_by(UR.kind, NORMAL))
    world.bridge.activate(world.now)
    world.up()
    world.answer(world.pass_time(100, until=SendRequest))
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.pass_time(2_000, until=SendRequest)
    assert world.speed > 0.1
    world.bridge.hear_state(world.now, "safety", said_by(UR.kind, PROTECTIVE_STOP))
    assert comes_to_rest(world)
    assert world.status.state is State.HOLDING
    assert world.status.cause is Cause.EMERGENCY_STOP
    assert world.status.message == "robot state /ur/safety_mode is PROTECTIVE_STOP (3)"
    pressed = world.bridge.reset(world.now)
    assert pressed is not None
    world.bridge.hear_state(world.now, "safety", said_by(UR.kind, NORMAL))
    world.pass_time(100)
    assert world.status.message.endswith("look at it, then call ~/reset")
    world.answer(world.all(SendRequest)[-1])
    assert world.bridge.reset(world.now) is None
    world.answer(world.pass_time(1_000, until=SendRequest))
    assert world.status.state is State.RUNNING


def test_the_topics_are_those_of_the_robots_drivers_unless_others_are_named(parameters):
    parameters |= {
        "stop_states": ["safety", "mode", "franka"],
        "stop_state.mode.kind": "ur_robot_mode",
        "stop_state.mode.topic": "/left/robot_mode",
        "stop_state.franka.kind": "franka_robot_state",
        "stop_timeout": 0.4,
    }
    assert settings_from_parameters(parameters).stops.states == (
        StopState(
            "safety",
            StopStateKind.UR_SAFETY_MODE,
            "/io_and_status_controller/safety_mode",
            0,
        ),
        StopState("mode", StopStateKind.UR_ROBOT_MODE, "/left/robot_mode", 0),
        StopState(
            "franka",
            StopStateKind.FRANKA_ROBOT_STATE,
            "/franka_robot_state_broadcaster/robot_state",
            400 * MS,
        ),
    )


def test_what_is_published_all_the_time_needs_a_timeout(parameters):
    parameters |= {
        "stop_states": ["franka"],
        "stop_state.franka.kind": "franka_robot_state",
        "stop_timeout": 0.0,
    }
    with pytest.raises(ParameterError, match=r"set stop_state\.franka\.timeout"):
        settings_from_parameters(parameters)
