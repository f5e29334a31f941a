"""The metadata says what every number of a request and of an action means."""

import dataclasses
import json

import pytest
from server_fakes import SPEC

from openpi_flash_models.robots import ROBOTS, get_robot
from openpi_flash_server.handlers.null_policy import NullPolicy
from openpi_flash_server.serving.metadata import action_metadata

EVERY_ROBOT = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
INPUT_KEYS = {"path", "kind", "shape", "names", "frame", "rotation", "required"}
ACTION_KEYS = ["name", "interface", "unit", "reference", "frame", "rotation", "closed", "open"]


def metadata_of(robot):
    spec = dataclasses.replace(SPEC, actions=robot.actions, inputs=robot.inputs)
    return action_metadata(spec, has_planner=False)


@EVERY_ROBOT
def test_every_input_and_action_of_every_robot_is_told(robot):
    metadata = metadata_of(robot)
    assert [tuple(given["path"]) for given in metadata["inputs"]] == [
        *(camera.path for camera in robot.cameras),
        *(part.path for part in robot.state),
        ("prompt",),
    ]
    for given in metadata["inputs"]:
        assert given.keys() - {"unit", "units"} == INPUT_KEYS
        assert ("unit" in given) != ("units" in given), "one of them"
        numbers = given["shape"][0] if given["kind"] in ("joints", "pose", "vector") else 0
        assert len(given["names"]) == numbers
        assert len(given.get("units", given["names"])) == numbers
        assert bool(given.get("unit", "-")) == (numbers > 0)
    assert [action["name"] for action in metadata["actions"]] == metadata["action_names"]
    for action in metadata["actions"]:
        assert list(action) == ACTION_KEYS
    assert json.loads(json.dumps(metadata)) == metadata, "lists, maps, texts and numbers only"


def test_units_are_told_for_each_number_where_they_differ():
    state = metadata_of(get_robot("sim_arm"))["inputs"][2]
    assert (state["units"], "unit" in state) == ([*["rad"] * 6, "1"], False)
    arm = metadata_of(get_robot("droid"))["inputs"][2]
    assert (arm["unit"], "units" in arm) == ("rad", False)


def test_the_ends_of_a_gripper_are_told_and_those_of_a_joint_are_null():
    actions = metadata_of(get_robot("droid_joint_position"))["actions"]
    assert [(a["closed"], a["open"]) for a in actions[6:]] == [(None, None), (1.0, 0.0)]


def test_liberos_rotation_is_told_by_its_three_numbers_alone():
    metadata = metadata_of(get_robot("libero"))
    assert [a["rotation"] for a in metadata["actions"]] == ["", "", "", *["rotvec"] * 3, ""]
    assert {a["frame"] for a in metadata["actions"][:6]} == {"world"}
    state = metadata["inputs"][2]
    assert (state["rotation"], state["frame"]) == ("rotvec", "world")


def test_a_policy_that_does_not_say_what_it_reads_sends_no_inputs():
    assert "inputs" not in action_metadata(NullPolicy().spec, has_planner=False)
    before = set(action_metadata(SPEC, has_planner=False))
    assert metadata_of(get_robot("droid")).keys() - before == {"inputs"}
