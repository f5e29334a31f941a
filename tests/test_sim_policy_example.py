"""examples/sim_policy: whole settings that fit the dataset which its first command writes."""

import json
import re
from pathlib import Path

from openpi_flash_models.config.robot_file import read_robot_file
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_training.demonstrations.columns import features
from openpi_flash_training.demonstrations.expert import STAGES, SUBTASKS
from openpi_flash_training.train.settings import check_complete
from openpi_flash_training.train.settings_file import read_settings
from sim_robot.robot import CUBES
from sim_robot.tasks import TASKS

EXAMPLE = Path(__file__).parent.parent / "examples/sim_policy"
FPS, HORIZON, IMAGE_SIZE = 10, 10, 112
"""The defaults of `openpi-flash demonstrations`."""


def test_its_settings_are_whole_and_name_columns_that_there_are():
    settings = read_settings(EXAMPLE / "cubes.json")
    check_complete(settings)
    columns = features(IMAGE_SIZE, HORIZON)
    assert settings.data.chunks in columns
    assert set(settings.data.labels.values()) <= set(columns)
    tasks = [TASKS[name].prompt(cube) for name in ("touch", "pick") for cube in CUBES]
    assert list(settings.data.prompts) == tasks
    assert len(tasks) % columns[settings.data.chunks].shape[0] == 0


def test_the_planner_is_taught_the_words_of_the_experts_stages():
    script = (EXAMPLE.parent.parent / "scripts/train-demo").read_text()
    (texts,) = re.findall(r"data.subtask_texts=(\[.*\])'", script)
    assert json.loads(texts) == [SUBTASKS[stage] for stage in STAGES]


def test_its_robot_is_the_simulated_arm_at_the_rate_of_the_demonstrations():
    settings = read_settings(EXAMPLE / "cubes.json")
    found = read_robot_file(EXAMPLE / "sim_cubes.yaml")
    (config,) = found.configs
    assert config.name == settings.model.config
    assert config.action_horizon == HORIZON
    assert config.robot.control_hz == FPS
    assert config.robot.inputs == SIM_ARM.inputs
    assert config.robot.actions == SIM_ARM.actions
    assert config.robot.hold == SIM_ARM.hold
