"""The chart on the README's first screen shows all that docs/benchmarks.md says, as it says it."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


def test_every_row_of_the_first_table_is_a_bar_slowest_first():
    from first_screen import same_host_bars

    bars = same_host_bars(PAGE)
    table = PAGE.split("**malloc keeps its pages**")[0]
    rows = re.findall(
        r"^\| [^|]*\((?:WebSocket|QUIC|unix socket)\) \| (\S+) \| (\S+) ", table, re.M
    )
    assert len(rows) == 5
    assert sorted((bar.p50, bar.high) for bar in bars) == sorted(
        (float(p50), float(p99)) for p50, p99 in rows
    )
    assert [bar.p50 for bar in bars] == sorted((bar.p50 for bar in bars), reverse=True)


def test_bars_are_those_of_openpi_hebbian_and_ours():
    from first_screen import same_host_bars

    page = (
        "<!-- transport: begin -->\n"
        "| openpi-client, server of openpi's protocol (WebSocket) | 3.00 | 9.00 | 1.00 (1-1) |\n"
        "| FlashTransportPolicy, openpi-flash (QUIC) | 2.00 | 8.00 | 0.60 (0-1) |\n"
        "| Hebbian's openpi-flash at 1234567, its client (QUIC) | 5.00 | 7.00 | 1.60 (1-2) |\n"
        "**malloc keeps its pages**\n"
        "| FlashTransportPolicy, openpi-flash (unix socket) | 1.00 | 1.00 | 1.00 (1-1) |\n"
        "<!-- transport: end -->\n"
    )
    found = [(bar.label, bar.p50, bar.high) for bar in same_host_bars(page)]
    assert found == [
        ("Hebbian's client, Hebbian's server", 5.0, 7.0),
        ("openpi's client, openpi's protocol", 3.0, 9.0),
        ("our client, openpi-flash by QUIC", 2.0, 8.0),
    ]


def test_every_path_of_the_network_table_has_its_three_bars():
    from first_screen import network_groups
    from network.rows import ROWS

    groups = network_groups(PAGE)
    assert [title for title, _ in groups] == [row.name for row in ROWS.values()]
    for title, bars in groups:
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {title} |")]
        assert [f"{bar.p50} / {bar.high}" for bar in bars] == line.split(" | ")[2:5]


def test_a_page_without_the_tables_is_refused():
    from first_screen import network_groups

    with pytest.raises(SystemExit, match="has no section 'network'"):
        network_groups("# Benchmarks\n")


def test_the_chart_is_drawn(tmp_path):
    from first_screen import draw, network_groups, same_host_bars

    draw(same_host_bars(PAGE), network_groups(PAGE), tmp_path / "images" / "chart.png")
    assert (tmp_path / "images" / "chart.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "name", re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
)
def test_the_pictures_of_the_readme_are_there_and_small(name):
    assert 10_000 < (ROOT / name).stat().st_size < 3_000_000
