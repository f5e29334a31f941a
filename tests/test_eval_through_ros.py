"""`openpi-flash eval --through ros`: the robot, its node, cameras and QUIC, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent


def evaluate(*arguments, timeout=580):
    return subprocess.run(
        [sys.executable, "-m", "openpi_flash_server", "eval", *arguments],
        env={**os.environ, "PYTHONPATH": f"{ROOT}/examples:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_the_expert_touches_what_the_prompt_names_from_new_starts_and_is_filmed(tmp_path):
    page = tmp_path / "report.html"
    # slowed down, so that a busy machine is as fast as the robot
    run = evaluate(
        *("--policy", "expert", "--through", "ros", "--speed", "0.1", "--episodes", "2"),
        *("--films", "1", "--report", str(page), "--json"),
    )
    assert run.returncode == 0, run.stderr
    (cell,) = json.loads(run.stdout)["cells"]
    assert (cell["through"], cell["task"], cell["episodes"]) == ("ros", "touch", 2)
    assert cell["successes"] == 2, cell
    assert cell["confusion"]["red"]["red"] == cell["confusion"]["green"]["green"] == 1
    assert 0.3 < cell["seconds_to_success"] < 8
    assert cell["rms_jerk"] > 0
    text = page.read_text()
    assert "Real time, over ROS" in text
    assert text.count("data:video/mp4") == 1
