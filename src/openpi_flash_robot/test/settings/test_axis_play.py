"""axis_play.py: server, parameters and controller agree on a number, or nothing is played."""

import math

import pytest

from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.axis_play import CannotPlayError, Reading, play_of
from openpi_flash_robot.settings.controllers import Controller, ControllerKind, Gripper

POSITION = ActionMeaning("j1", "position", "rad")
VELOCITY = ActionMeaning("j1", "velocity", "rad/s")
DELTA = ActionMeaning("x", "eef_delta", "1", "previous_step")
TWIST = ActionMeaning("vx", "base_twist", "m/s")
HAND = Gripper("hand", closed=0.8, open=0.0, policy_closed=0.0, policy_open=0.0, threshold=0.0)


def controller(kind):
    return Controller("c", "/c", ("a",), (0,), kind)


def play(meaning, kind="", *, scale=1.0, gripper=None, by=None):
    given = None if by is None else controller(by)
    return play_of("a", meaning, kind=kind, scale=scale, gripper=gripper, controller=given)


@pytest.mark.parametrize(
    ("meaning", "kind", "by", "reading"),
    [
        (POSITION, "", "joint_trajectory", Reading.ABSOLUTE),
        (POSITION, "position", "position", Reading.ABSOLUTE),
        (POSITION, "position", "joint_state", Reading.ABSOLUTE),
        (
            ActionMeaning("j1", "position", "rad", "observed_state"),
            "",
            "joint_trajectory",
            Reading.FROM_OBSERVED,
        ),
        (ActionMeaning("j1", "position", "rad", "previous_step"), "", "velocity", Reading.PER_STEP),
        (VELOCITY, "velocity", "velocity", Reading.PER_SECOND),
        (VELOCITY, "velocity", "joint_trajectory", Reading.PER_SECOND),
        (DELTA, "eef_delta", "twist", Reading.PER_STEP),
        (TWIST, "base_twist", "base", Reading.PER_SECOND),
        (None, "velocity", "velocity", Reading.PER_SECOND),
        (None, "eef_delta", "twist", Reading.PER_STEP),
        (None, "position", None, Reading.ABSOLUTE),
    ],
)
def test_what_all_sides_agree_on_is_played(meaning, kind, by, reading):
    kind_of = None if by is None else ControllerKind(by)
    assert play(meaning, kind, by=kind_of).reading is reading


@pytest.mark.parametrize(
    ("meaning", "kind", "text"),
    [
        (
            VELOCITY,
            "",
            "not of kind position, which this node expects without its parameter",
        ),
        (
            VELOCITY,
            "position",
            "not of kind position, which this node expects by its parameter",
        ),
        (POSITION, "velocity", r"j1 \(position, rad, absolute\) is not of kind velocity"),
        (DELTA, "", "set action_kind of this axis to eef_delta"),
        (DELTA, "velocity", "is not of kind velocity"),
        (ActionMeaning("j1", "effort", "N m"), "", "cannot be played: this node plays position"),
        (ActionMeaning("j1", "position", "deg"), "", r"j1 \(position, deg, absolute\) cannot"),
        (ActionMeaning("j1", "velocity", "rad/s", "previous_step"), "velocity", "the reference"),
        (ActionMeaning("g", "gripper", "1", "previous_step"), "", "the reference previous_step"),
        (None, "", "does not say what its actions mean"),
    ],
)
def test_what_they_do_not_agree_on_is_refused_and_both_sides_are_named(meaning, kind, text):
    with pytest.raises(CannotPlayError, match=text):
        play(meaning, kind)


@pytest.mark.parametrize(
    ("meaning", "kind", "by"),
    [
        (POSITION, "", "velocity"),
        (POSITION, "", "twist"),
        (VELOCITY, "velocity", "twist"),
        (DELTA, "eef_delta", "joint_trajectory"),
        (TWIST, "base_twist", "velocity"),
        (POSITION, "", "gripper"),
    ],
)
def test_a_controller_that_takes_something_else_is_refused(meaning, kind, by):
    with pytest.raises(CannotPlayError, match=f"cannot be played by controller c of kind {by}"):
        play(meaning, kind, by=ControllerKind(by))


def test_a_grippers_ends_are_mapped_by_the_servers_word():
    said = ActionMeaning("hand", "gripper", "1", closed=1.0, open=-1.0)
    found = play(said, gripper=HAND)
    assert found.is_gripper
    assert [value * found.scale + found.offset for value in (1.0, 0.0, -1.0)] == pytest.approx(
        [0.8, 0.4, 0.0]
    )
    assert math.isnan(found.threshold)


def test_or_by_the_nodes_own_and_never_by_a_guess():
    own = Gripper("hand", closed=0.8, open=0.0, policy_closed=1.0, policy_open=0.0, threshold=0.25)
    found = play(None, gripper=own)
    assert found.scale + found.offset == pytest.approx(0.8)
    assert (found.threshold, found.closed, found.open) == (pytest.approx(0.6), 0.8, 0.0)
    with pytest.raises(CannotPlayError, match=r"set gripper\.hand\.policy_closed and policy_open"):
        play(ActionMeaning("hand", "gripper", "1"), gripper=HAND)


def test_a_hand_that_is_told_which_way_to_go_is_opened_or_closed_wholly():
    said = ActionMeaning("hand", "gripper", "1", "previous_step", closed=1.0, open=-1.0)
    with pytest.raises(CannotPlayError, match="set gripper.<name>.threshold"):
        play(said, gripper=HAND)
    either = Gripper("hand", 0.8, 0.0, 0.0, 0.0, threshold=0.5)
    found = play(said, gripper=either)
    assert (found.reading, found.threshold) == (Reading.ABSOLUTE, pytest.approx(0.4))
    assert found.stays_at == 0.0
    where = ActionMeaning("hand", "gripper", "1", closed=1.0, open=-1.0)
    assert math.isnan(play(where, gripper=either).stays_at)


def test_a_gripper_whose_ends_nobody_sets_is_passed_through():
    plain = Gripper("hand", 0.0, 0.0, 0.0, 0.0, 0.0)
    found = play(ActionMeaning("hand", "gripper", "1", closed=1.0, open=0.0), gripper=plain)
    assert (found.scale, found.offset, found.is_gripper) == (1.0, 0.0, True)


def test_scale_turns_the_policys_unit_into_the_axiss():
    assert play(DELTA, "eef_delta", scale=0.05).scale == 0.05
