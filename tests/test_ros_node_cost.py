"""The benchmark of the ROS node: its table, and one short run over real DDS."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "ros_node_cost"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("ros_node_cost", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules[spec.name]


def test_a_ratio_is_taken_within_each_round(compare):
    results = [compare.Result(cpu=[0.2, 0.4, 0.2]) for _ in compare.ARMS]
    last = results[-1]
    last.cpu, last.requests, last.frames = [0.1, 0.1, 0.1], [2.0, 2.1, 2.2], [10, 20, 30]
    last.seconds = [0.001, 0.002, 0.003]
    for result, arm in zip(results, compare.ARMS, strict=True):
        if arm.horizon and result is not last:
            result.requests, result.frames, result.seconds = [1.0], [1.0], [0.001]
    table = compare.describe(results, compare.parse(["--rounds", "3"])).splitlines()
    assert "n = 3 rounds of 8 s per arm" in table[0]
    assert table[-1] == ("| client node | 2.1 | 10.0 | 0.50 (0.38-0.50) | 20 | 2.0 / 3.0 (3) |")
    silent = next(line for line in table if "takes nothing" in line)
    assert silent.split("|")[5].strip() == "0"


def test_each_program_runs_and_tells_what_it_took(compare):
    """One short turn of the client node; that of the others is the same without a report."""
    with compare.reserved_ros_domain() as domain:
        environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
        script = (
            "import compare, sys; compare.WARM_UP_S = 2.0; result = compare.Result()\n"
            "with compare.running('robot.py', '64', '48'), "
            "compare.running('policy_server.py') as server:\n"
            "    port = server.stdout.readline().strip()\n"
            "    for arm in (compare.ARMS[0], compare.ARMS[-2]):\n"
            "        compare.measure(arm, result, port, 4.0)\n"
            "assert len(result.cpu) == 2 and min(result.cpu) > 0, result\n"
            "assert result.requests[0] > 0 and 0 < result.frames[0] < 95, result\n"
            "assert 0 < min(result.seconds) < 1, result\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=FOLDER,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
