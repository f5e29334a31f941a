"""docs/sizing.md shows what `openpi-flash plan` says, and its tables are computed by it."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_server.sizing.plan import MOST_BUSY, Device, Fleet, longest_rtt_ms, plan
from openpi_flash_server.sizing.waiting import wait_quantile
from openpi_flash_server.sizing.weights import MODELS, PLANNER

PAGE = (Path(__file__).parents[3] / "docs/sizing.md").read_text()


def table(title):
    """The cells below the head of the first table of a section, by row."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[0], rows[2:]


def test_the_example_is_what_the_command_prints():
    block = re.search(r"```\n\$ openpi-flash (.*)\n((?:.*\n)*?)```", PAGE)
    result = CliRunner().invoke(app, shlex.split(block[1]))
    assert result.output == block[2]


def test_weights_are_those_of_the_plan():
    _, rows = table("Memory of a GPU")
    wanted = {"pi0": MODELS["pi0"], "pi0.5": MODELS["pi05"], "pi0-FAST": MODELS["pi0-fast"]}
    wanted["planner"] = PLANNER
    assert [row[0] for row in rows] == list(wanted)
    for name, _, low, full, eight in rows:
        assert float(low) == pytest.approx(wanted[name].gigabytes("bfloat16"), abs=0.05)
        assert float(full) == pytest.approx(wanted[name].gigabytes("float32"), abs=0.05)
        assert float(eight) == pytest.approx(wanted[name].gigabytes("float8"), abs=0.05)


def test_what_fits_is_the_sum_of_its_parts():
    head, rows = table("What fits where")
    models = {"pi0.5": [MODELS["pi05"]], "planner": [PLANNER]}
    models["pi0.5 and planner"] = models["pi0.5"] + models["planner"]
    models["both of one checkpoint"] = models["pi0.5"]
    assert len(rows) == 2 * len(models)
    for name, dtype, weights, calls, needed, *verdicts in rows:
        size = sum(part.gigabytes(dtype.split(",")[0]) for part in models[name])
        assert float(weights) == pytest.approx(size, abs=0.051)
        assert float(needed) == pytest.approx(float(weights) + float(calls) + 1, abs=0.01)
        shares = [float(needed) / float(title.removesuffix(" GB")) for title in head[4:]]
        assert verdicts == [
            "yes" if share <= 0.9 else "tight" if share <= 1 else "no" for share in shares
        ]


def test_robots_per_gpu_are_the_most_at_eighty_percent():
    head, rows = table("Robots per GPU")
    for rate, *cells in rows:
        if not rate.isdigit() or len(cells) != len(head) - 1:
            continue
        for title, cell in zip(head[1:], cells, strict=True):
            call_ms = float(title.removesuffix(" ms"))
            most = int(cell)
            busy = [robots * float(rate) * call_ms / 1e3 for robots in (most, most + 1)]
            assert busy[0] <= MOST_BUSY < busy[1]


def test_waiting_is_that_of_the_plan():
    counts = re.search(r"^\| robots on the GPU at 80 % \| (.*) \|$", PAGE, re.M)[1].split(" | ")
    calls = re.search(r"^\| calls \| (.*) \|$", PAGE, re.M)[1].split(" | ")
    for robots, cell in zip(map(int, counts), calls, strict=True):
        wait = wait_quantile(0.99, robots - 1, robots / MOST_BUSY)
        assert float(cell) == pytest.approx(wait, abs=0.051)


def test_bandwidth_is_that_of_the_plan():
    _, rows = table("Bandwidth of a robot")
    for cameras, raw, jpeg in rows:
        fleet = Fleet(1, 2.0, int(cameras))
        assert float(raw) == pytest.approx(fleet.uplink_mbit_s, abs=0.051)
        compressed = Fleet(1, 2.0, int(cameras), jpeg=True)
        assert float(jpeg) == pytest.approx(compressed.uplink_mbit_s, abs=0.051)


def test_round_trips_are_those_of_the_plan():
    head, rows = table("Round trip by control rate")
    for horizon, *cells in rows:
        for title, cell in zip(head[1:], cells, strict=True):
            control_hz = float(title.removesuffix(" Hz"))
            fleet = Fleet(1, 2.0, 3, rtt_ms=0, horizon=int(horizon), control_hz=control_hz)
            rtt = longest_rtt_ms(fleet, plan(fleet, Device(45.0)))
            assert cell == (str(int(rtt)) if rtt > 0 else "none")
