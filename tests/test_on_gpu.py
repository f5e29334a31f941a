"""The script for the day when there is a GPU runs whole on a CPU, at tiny sizes."""

import sys
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[1] / "benchmarks" / "models"


@pytest.mark.timeout(900)
def test_every_part_adds_to_the_report(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(MODELS))
    from on_gpu import run

    report = tmp_path / "report.md"
    day = run(report, "tiny", minutes=60, calls=2)
    text = report.read_text()
    assert "failed" not in text
    assert "WRONG" not in text
    assert text.count("right,") == 3
    assert {"pi0.5, 3 cameras", "planner, a token", "8 rows", "rtc vjp"} <= {
        row.name for row in day.rows
    }
    assert all(row.milliseconds(50) <= row.milliseconds(99) for row in day.rows)
    sys.modules.pop("on_gpu", None)


def test_parts_without_time_are_left_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(MODELS))
    from on_gpu import run

    report = tmp_path / "report.md"
    day = run(report, "tiny", minutes=0, calls=2)
    assert day.rows == []
    assert report.read_text().count("left out") == 9
    sys.modules.pop("on_gpu", None)
