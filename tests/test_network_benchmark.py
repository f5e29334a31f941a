"""The network benchmark's choices and tables; one real row where namespaces are permitted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

NETWORK = Path(__file__).parents[1] / "benchmarks" / "network"


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    folders = [str(NETWORK), str(NETWORK.parent)]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


def test_rows_are_chosen_by_their_keys_in_the_order_given():
    from rows import ROWS, choose

    assert choose("loss,idle") == [ROWS["loss"], ROWS["idle"]]
    with pytest.raises(ValueError, match="unknown row 'los', expected some of: idle, loss"):
        choose("los")


def test_a_row_becomes_the_arguments_of_the_path():
    from rows import Row

    row = Row("r", 25, loss="bursts:0.02:5", jitter_ms=1.0, up_mbps=20, queue_bytes=150_000)
    arguments = row.path_arguments(seed=7)
    assert arguments[:5] == ["7", "12500", "20000000", "1000000000", "150000"]
    assert arguments[5:] == ["in-order:1000", "bursts:0.02:5"]
    assert Row("r", 25, jitter_ms=1.0, overtakes=True).path_arguments(1)[5] == "overtaking:1000"
    assert Row("r", 25).path_arguments(1)[5:] == ["none", "none"]


def test_a_path_is_measured_with_a_pause_and_back_to_back():
    from rows import choose

    for key in ("loss", "jitter", "lte", "wifi"):
        row, back_to_back = choose(f"{key},{key}-back-to-back")
        assert (row.pause, back_to_back.pause) == ("0.1 s", "none")
        assert back_to_back.path_arguments(1) == row.path_arguments(1)


def test_all_rows_are_measured_unless_told(capsys):
    from compare import parse
    from rows import ROWS

    assert parse([]).rows == list(ROWS.values())
    assert parse(["--rows", "jitter", "--requests", "3"]).requests == 3
    with pytest.raises(SystemExit):
        parse(["--rows", "warp"])
    assert "warp" in capsys.readouterr().err


def test_a_table_has_medians_tails_and_the_ratio_of_the_first_to_the_last():
    from compare import ARMS, describe
    from rows import Row

    times = [np.full(20, 500.0), np.full(20, 100.0), np.asarray([50.0] * 18 + [80.0] * 2)]
    head, _, names, _, line = describe([(Row("a row", 20), times)]).splitlines()
    assert "n = 20 per arm" in head
    assert all(arm.name in names for arm in ARMS)
    assert line == "| a row | 0.1 s | 500.0 / 500.0 | 100.0 / 100.0 | 50.0 / 80.0 | 10.0 |"


def test_a_failed_command_says_what_it_said():
    from namespaces import run

    with pytest.raises(OSError, match="'ls /nowhere' failed: .*nowhere"):
        run("ls", "/nowhere")


def test_the_figure_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from plot import draw

    times = [np.full(5, 500.0), np.full(5, 100.0), np.full(5, 50.0)]
    draw({"one": times, "two": times}, ["a", "b", "c"], tmp_path / "images" / "figure.png")
    assert (tmp_path / "images" / "figure.png").read_bytes().startswith(b"\x89PNG")


def relay():
    """The program, if somebody has built it, and may make devices and namespaces."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", NETWORK.parents[1] / "target"))
    programs = [target / profile / "examples" / "emulated_path" for profile in ("release", "debug")]
    found = [program for program in programs if program.exists()]
    if not found:
        pytest.skip("emulated_path is not built: cargo build -p flash_transport --examples")
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("namespaces and TUN devices are root's")
    if shutil.which("ip") is None:
        pytest.skip("there is no iproute2")
    return found[0]


def test_a_short_row_over_a_real_path_leaves_nothing_behind():
    program = relay()
    from compare import ARMS, measure
    from namespaces import two_namespaces
    from rows import Row

    row = Row("RTT 40 ms", 40, requests=2)
    with two_namespaces() as ends:
        names = {end.name for end in ends}
        times = measure(row, ARMS, None, program, ends)
    for arm in times:
        assert len(arm) == 2
        assert arm.min() > 40
    left = subprocess.check_output(["ip", "netns", "list"], text=True)
    assert not names & set(left.split())
