"""The script for the day when there is a GPU runs whole on a CPU, at tiny sizes."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS, PAGE = ROOT / "benchmarks" / "models", ROOT / "docs" / "models.md"


@pytest.mark.timeout(900)
def test_every_part_adds_to_the_report(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(MODELS))
    from on_gpu import run

    report = tmp_path / "report.md"
    page = PAGE.read_text().replace("| L40S |", "| cpu |")
    day = run(report, "tiny", minutes=60, calls=2, page=page)
    text = report.read_text()
    assert "failed" not in text
    assert "WRONG" not in text
    assert text.count("right,") == 3
    assert {"pi0.5, 3 cameras", "planner, a token", "8 rows", "rtc vjp"} <= {
        row.name for row in day.rows
    }
    assert all(row.milliseconds(50) <= row.milliseconds(99) for row in day.rows)
    estimate = day.estimates["pi0.5 96, action, 3 cameras"]
    (line,) = [line for line in text.splitlines() if line.startswith("- pi0.5, 3 cameras:")]
    assert f"goal 15.0, estimate {estimate:g}: " in line
    sys.modules.pop("on_gpu", None)


def test_estimates_are_those_of_the_device(monkeypatch):
    monkeypatch.syspath_prepend(str(MODELS))
    from gpu_table import read_estimates

    page = PAGE.read_text()
    h200 = read_estimates(page, "NVIDIA H200")
    assert h200["pi0.5 96, action, 3 cameras"] > h200["pi0.5 96, action, 3 cameras, each turn"] > 0
    assert read_estimates(page, "NVIDIA GeForce RTX 5090")
    assert read_estimates(page, "NVIDIA H2000") == {}
    with pytest.raises(ValueError, match="no table with a column"):
        read_estimates("", "NVIDIA H200")


def test_what_has_an_estimate_is_measured_by_that_name(monkeypatch):
    """The names of measurements and programs are those of the scripts that make them."""
    monkeypatch.syspath_prepend(str(MODELS))
    from gpu_program import CASES, title
    from on_gpu import ESTIMATED

    titles = {title(case) for case in CASES}
    assert {name.removesuffix(", each turn") for name in ESTIMATED.values()} <= titles
    sys.modules.pop("on_gpu", None)


def test_parts_without_time_are_left_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(MODELS))
    from on_gpu import run

    report = tmp_path / "report.md"
    day = run(report, "tiny", minutes=0, calls=2)
    assert day.rows == []
    assert report.read_text().count("left out") == 9
    sys.modules.pop("on_gpu", None)
