"""`scripts/train-demo --quick`: demonstrations, statistics, training, corrections, evaluation."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend

try:
    choose_gl_backend()
    CAN_DRAW = True
except RenderingUnavailableError:
    CAN_DRAW = False

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not CAN_DRAW, reason="no OpenGL on this machine"),
]

ROOT = Path(__file__).parent.parent


def test_the_quick_road_ends_with_a_policy_that_touches_what_the_prompt_names(tmp_path):
    made = subprocess.run(
        [ROOT / "scripts/train-demo", "--quick", tmp_path / "cubes"],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=1450,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    # training has changed the weights, and they say subtasks
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss ([\d.]+)", made.stdout, re.M)]
    assert losses
    assert re.search(r"^touch plain .* ([7-9]|10) of 10 ", made.stdout, re.M), made.stdout
    assert re.search(r"^subtasks agree +[1-9]", made.stdout, re.M), made.stdout
    assert (tmp_path / "cubes/corrections-first-touch/meta/info.json").is_file()
    assert (tmp_path / "cubes/weights/params").is_dir()
