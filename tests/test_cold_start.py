"""A second start of the same policy compiles nothing: its programs were kept."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_second_start_reads_all_programs_that_the_first_one_compiled(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "models"))
    from cold_start import in_a_process

    weights = ROOT / "examples" / "sim_policy" / "weights"
    robot_file = ROOT / "examples" / "sim_policy" / "sim_cubes.yaml"
    arguments = ["pi05_sim_cubes", str(weights), "--robot-file", str(robot_file)]
    first, second = (in_a_process(tmp_path, arguments) for _ in range(2))
    assert first.compiled > 0
    assert (first.read, second.compiled) == (0, 0)
    assert second.read == first.compiled
    sys.modules.pop("cold_start", None)
