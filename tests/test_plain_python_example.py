"""examples/plain_python: the program as its README starts it, against a real server."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripted_server import ScriptedServer

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plain_python"
JOINTS = [
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_pitch",
    "wrist_yaw",
    "wrist_roll",
    "gripper",
]

SOMETIME = re.compile("no image received yet|is not authenticated")
"""Lines of the README that may come in another order, or not at all: threads say them."""


def turn_the_shoulder(observation):
    way = np.zeros((50, 7))
    way[:, 0] = 0.3 * np.arange(50) / 25.0
    return observation["observation/state"] + way


@pytest.fixture
def server():
    position = {"interface": "position", "unit": "rad", "reference": "absolute"}
    server = ScriptedServer(
        turn_the_shoulder,
        action_dim=7,
        supports=["rtc"],
        action_names=JOINTS,
        actions=[{"name": joint, **position} for joint in JOINTS],
    )
    yield server
    server.stop()


def start(server, *more):
    # a shell that runs the tests in the background has them ignore Ctrl-C
    command = ["env", "--default-signal=INT", sys.executable, str(EXAMPLE / "run_arm.py")]
    command += ["--port", str(server.port), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def shoulder(output):
    """Where the shoulder stands in the end."""
    return float(re.search(r"stands at \[\s*(\S+)", output)[1])


def test_the_arm_is_moved_for_some_seconds_and_says_what_the_readme_shows(server):
    program = start(server, "--seconds", "4", "--prompt", "turn")
    output, log = program.communicate(timeout=100)
    assert program.returncode == 0, log
    assert shoulder(output) > 0.1
    assert {request["prompt"] for request in server.requests} == {"turn"}
    assert set(server.requests[0]) >= {"observation/scene_image", "observation/wrist_image"}
    page = (EXAMPLE / "README.md").read_text()
    shown = re.search(r"```\n(WARNING dry_run.*?)\n```", page, re.S)[1].splitlines()
    said = iter(re.sub(r":\d+", "", log).splitlines())
    for line in shown[:-1]:
        if not SOMETIME.search(line):
            assert re.sub(r":\d+", "", line) in said, log
    assert re.fullmatch(r"played \d+ chunks; the arm stands at \[.*\]\n", output)


def test_ctrl_c_brakes_the_arm_and_ends_the_program(server):
    program = start(server)
    for line in program.stderr:
        if "RUNNING" in line:
            break
    program.send_signal(signal.SIGINT)
    output, log = program.communicate(timeout=100)
    assert program.returncode == 0, log
    assert "stopped by Ctrl-C or SIGTERM: braking" in log
    assert output.startswith("played ")
