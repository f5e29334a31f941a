"""`openpi-flash eval --ray` with a real cluster on this machine, beside one process.

`scripts/test-ray` installs Ray and runs these; without Ray they are skipped.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend

ray = pytest.importorskip("ray", reason="Ray is not installed: scripts/test-ray installs it")

# what Ray itself leaves open is no matter of these tests
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EXPERT = ("--policy", "expert", "--task", "touch", "--episodes", "6", "--delay", "0,50", "--json")


def run(*arguments):
    result = CliRunner().invoke(app, ["eval", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def numbers(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def can_draw():
    try:
        choose_gl_backend()
    except RenderingUnavailableError:
        return False
    return True


def test_the_numbers_of_a_cluster_are_those_of_one_process():
    assert numbers(*EXPERT, "--ray", "local", "--workers", "2") == numbers(*EXPERT)


def test_an_episode_whose_worker_is_killed_is_played_again(monkeypatch):
    from openpi_flash_training.evaluation import ray_cluster

    alone = numbers(*EXPERT)
    played = ray_cluster.RayCluster.play

    def play(self, choices, jobs):
        """After the first result the process of one worker is killed."""
        for index, result in enumerate(played(self, choices, jobs)):
            if index == 0:
                os.kill(ray.get(worker_process.remote()), signal.SIGKILL)
            yield result

    @ray.remote(num_cpus=0)
    def worker_process():
        (victim, *_) = processes_named("ray::_Player")
        return victim

    monkeypatch.setattr(ray_cluster.RayCluster, "play", play)
    assert numbers(*EXPERT, "--ray", "local", "--workers", "2") == alone


def processes_named(name):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(name.encode()):
            found.append(int(folder.name))
    return sorted(found)


@pytest.mark.skipif(not can_draw(), reason="no OpenGL on this machine")
def test_policies_are_served_on_the_cluster_and_compared(monkeypatch, tmp_path):
    made = CliRunner().invoke(app, ["make-demo-checkpoint", str(tmp_path / "demo")])
    assert made.exit_code == 0, made.output
    first, second = str(tmp_path / "demo/action"), str(tmp_path / "other")
    Path(second).symlink_to(first)
    given = ("--checkpoint", first, "--checkpoint", second, "--episodes", "2", "--json")
    found = numbers(*given, "--ray", "local", "--workers", "2")
    one, other = found["policies"]
    assert (one["policy"], other["policy"]) == (first, second)
    assert one["cells"] == other["cells"] == numbers(*given[:2], *given[4:])["cells"]


def test_a_cluster_that_is_not_there_is_an_error_of_one_line():
    result = run("--policy", "expert", "--episodes", "1", "--ray", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot connect to Ray at 127.0.0.1:1: ")
