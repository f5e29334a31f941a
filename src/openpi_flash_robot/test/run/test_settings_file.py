"""settings_file.py: the node's parameters for a robot without topics."""

from pathlib import Path

import numpy as np
import pytest
from plain_robot import PARAMETERS, settings_for

from openpi_flash_robot.run.settings_file import load_settings, robot_settings
from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.parameter_kinds import ParameterError

CONFIG = Path(__file__).parents[4] / "config"


def test_keywords_are_the_parameters_of_the_node_and_maps_are_names_with_dots():
    settings = settings_for(control_rate_hz=100.0, position_lower=np.full(3, -1.0))
    assert settings.control_period_ns == 10_000_000
    assert settings.player.position_lower == (-1.0, -1.0, -1.0)
    assert settings.observation.cameras[0].key == ("observation/image",)


def test_without_controllers_every_axis_is_told_its_position_without_delay():
    settings = settings_for()
    (controller,) = settings.controllers
    assert controller.kind is ControllerKind.POSITION
    assert controller.joints == ("shoulder", "elbow", "gripper")
    assert settings.player.lead_ns == 0


def test_a_robot_moves_nothing_unless_it_is_told_to():
    assert robot_settings(**{k: v for k, v in PARAMETERS.items() if k != "dry_run"}).dry_run


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(ParameterError, match=r"camera\.scene\.kye; the closest known one is"):
        settings_for(camera={"scene": {"kye": "observation/image"}})


@pytest.mark.parametrize("robot", ["sim_arm", "template"])
def test_the_parameter_files_of_the_node_are_read_and_topics_are_not_heeded(robot):
    settings = load_settings(CONFIG / "robots" / f"{robot}.yaml", dry_run=False, server="10.0.0.5")
    assert len(settings.joints) == 7
    assert {camera.topic for camera in settings.observation.cameras} == {"read()"}
    assert settings.observation.joint_state_topics == ("read()",)
    assert settings.link.host == "10.0.0.5"
    assert settings.stamp_trajectories


def test_changes_override_the_file_also_inside_a_map(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(
        "/other_node:\n  ros__parameters: {nonsense: 1}\n"
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    cameras: [scene]\n"
        "    camera: {scene: {key: a, topic: /image/compressed}}\n    joints: [j]\n"
        "/openpi/client_node:\n  ros__parameters: {prompt: open the drawer}\n"
    )
    settings = load_settings(path, camera={"scene": {"key": "b"}})
    assert settings.observation.cameras[0].key == ("b",)
    assert settings.prompt == "open the drawer"


@pytest.mark.parametrize("text", ["joints: [j]", "[1, 2]", "", "a: {b: ", "/**: {joints: [j]}"])
def test_a_file_that_is_no_parameter_file_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"robot\.yaml"):
        load_settings(path)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path):
    with pytest.raises(ParameterError, match=r"none\.yaml"):
        load_settings(tmp_path / "none.yaml")
