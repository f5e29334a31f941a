"""examples/sim_policy: whole settings that fit the dataset which its first command writes."""

import json
import math
import re
from pathlib import Path

from openpi_flash_models.checkpoints.layout import lazy_leaves
from openpi_flash_models.checkpoints.readiness import model_shape
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.config.robot_file import read_robot_file
from openpi_flash_models.model.shape import expected_shapes, named_shape
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_training.demonstrations.columns import features
from openpi_flash_training.demonstrations.expert import STAGES, SUBTASKS
from openpi_flash_training.train.settings import check_complete
from openpi_flash_training.train.settings_file import read_settings
from openpi_flash_training.train.sizes import new_shape
from sim_robot.robot import CUBES
from sim_robot.tasks import TASKS

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/sim_policy"
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
    script = (ROOT / "scripts/train-demo").read_text()
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


def told(shape, config, cameras):
    """The rows of the table of docs/training.md, of a model and the config that serves it."""
    return {
        "parameters": sum(math.prod(size) for size in expected_shapes(shape).values()),
        "image side, px": shape.image_size,
        "patch side, px": shape.patch,
        "tokens of an image": shape.image_tokens,
        "cameras": cameras,
        "vision width": shape.vision_width,
        "vision layers": shape.vision_depth,
        "vision heads": shape.vision_heads,
        "vision MLP": shape.vision_mlp,
        "language width": shape.width,
        "language MLP": shape.mlp,
        "action expert width": shape.expert_width,
        "action expert MLP": shape.expert_mlp,
        "layers of both experts": shape.depth,
        "heads": shape.heads,
        "head width": shape.head_width,
        "key heads": shape.key_heads,
        "vocabulary": shape.vocabulary,
        "prompt tokens": config.max_token_len,
        "action width": config.action_dim,
        "horizon, steps": config.action_horizon,
    }


def test_the_page_tells_its_sizes_and_those_of_pi05():
    page = (ROOT / "docs/training.md").read_text()
    _, _, section = page.partition("### A small model")
    section, _, _ = section.partition("\n### ")
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \| ([\d,]+) \|", section, re.M)
    weights = EXAMPLE / "weights"
    shape = model_shape(lazy_leaves(weights), str(weights), "pi05")
    settings = read_settings(EXAMPLE / "cubes.json")
    (config,) = read_robot_file(EXAMPLE / "sim_cubes.yaml").configs
    assert settings.model.size == "small"
    assert shape == new_shape("small", "pi05", action_dim=config.action_dim, vocabulary=989)
    theirs = get_config("pi05_aloha")
    ours = told(shape, config, len(config.robot.cameras))
    full = told(named_shape("pi05"), theirs, len(theirs.robot.cameras))
    for name, demo, pi05 in rows:
        assert int(demo.replace(",", "")) == ours.pop(name), name
        assert int(pi05.replace(",", "")) == full[name], name
    assert ours == {}
