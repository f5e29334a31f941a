"""What the demo shows and leaves behind: the live line, pictures, plots, the summary."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from demo_runs import good_run
from PIL import Image

from demo.frames import Frame, FrameKeeper, save_frames
from demo.live_line import live_line
from demo.report import summary, summary_lines, write_report
from demo.run_data import State
from demo.terminal import CLEAR_LINE, Terminal
from demo.verdict import Bounds, judge

BOUNDS = Bounds(max_observation_age=0.5, max_chunk_age=2.0)


def test_the_live_line_shows_how_the_run_goes():
    run = good_run()
    line = live_line(4.0, 10, run.inferences, run.statuses[0], '"reach for the red cube"')
    assert line.startswith("  4.0 s | RUNNING over quic | 2.5 chunks/s | round trip p50 ")
    assert " ms | observation age 20 ms | " in line
    assert line.endswith('"reach for the red cube"')


def test_the_live_line_says_why_the_robot_holds():
    status = replace(good_run().statuses[0], state=State.HOLDING, message="chunk 3 is late")
    line = live_line(4.0, 10, [], status, "words")
    assert "HOLDING over quic" in line
    assert line.endswith("chunk 3 is late")


def test_the_live_line_has_something_to_say_before_anything_has_come():
    assert live_line(0.0, 0, [], None, "") == "  0.0 s | 0.0 chunks/s"


def test_in_a_terminal_the_live_line_is_written_over_and_taken_away_for_lasting_lines():
    stream = io.StringIO()
    terminal = Terminal(stream, in_place=True)
    terminal.live("one", 0.0)
    terminal.live("two", 0.1)
    terminal.say("done")
    assert stream.getvalue() == f"{CLEAR_LINE}one{CLEAR_LINE}two{CLEAR_LINE}done\n"


def test_elsewhere_there_is_a_line_every_few_seconds_and_no_control_characters():
    stream = io.StringIO()
    terminal = Terminal(stream, in_place=False)
    for tenth in range(120):
        terminal.live(f"{tenth / 10}", tenth / 10)
    terminal.say("done")
    assert stream.getvalue() == "0.0\n5.0\n10.0\ndone\n"


def test_a_live_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    Terminal(stream, in_place=True).live("x" * 100, 0.0)
    assert stream.getvalue() == CLEAR_LINE + "x" * 19


def test_pictures_are_spread_over_the_run_and_alike_for_all_cameras():
    keeper = FrameKeeper(seconds=10.0, count=5)
    kept = {"scene": [], "wrist": []}
    for time in np.arange(0.03, 10.0, 0.1):
        for camera, times in kept.items():
            if keeper.wants(camera, float(time)):
                times.append(round(float(time), 2))
    assert kept["scene"] == [0.03, 2.03, 4.03, 6.03, 8.03]
    assert kept["wrist"] == kept["scene"]


def test_pictures_that_fail_to_come_do_not_bring_two_at_once_later():
    keeper = FrameKeeper(seconds=10.0, count=5)
    assert [time for time in (0.1, 5.0, 5.1, 6.1) if keeper.wants("scene", time)] == [0.1, 5.0, 6.1]


def test_a_picture_is_saved_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    save_frames([Frame("scene", 3.21, pixels)], tmp_path / "frames")
    with Image.open(tmp_path / "frames" / "03.2s_scene.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path):
    pixels = np.zeros((24, 32, 3), np.uint8)
    for time in (1.0, 2.0):
        save_frames([Frame("scene", time, pixels)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["02.0s_scene.png"]


def test_a_report_holds_plots_pictures_and_numbers(tmp_path):
    run = good_run()
    frames = [Frame("wrist", 0.0, np.zeros((24, 32, 3), np.uint8))]
    write_report(tmp_path, run, frames, judge(run, BOUNDS))
    for name in ("joints.png", "latency.png"):
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert min(pixels.shape[:2]) > 700
        colours = pixels.astype(int) @ [65536, 256, 1]
        assert len(np.unique(colours)) > 200
    assert (tmp_path / "frames" / "00.0s_wrist.png").exists()
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers["passed"] is True
    assert numbers["chunks"] == 20
    assert numbers["chunks_per_second"] == 2.5
    assert 50 < numbers["round_trip_ms"]["p50"] <= numbers["round_trip_ms"]["p99"] < 100
    assert numbers["command_error_rms_rad"]["elbow"] < 0.01
    assert {check["name"] for check in numbers["checks"]} >= {"the arm moved", "exit codes"}


def test_measured_and_commanded_are_both_drawn(tmp_path):
    from demo.plots import COMMANDED, MEASURED, plot_joints

    path = tmp_path / "joints.png"
    run = good_run()
    apart = tuple(replace(t, positions=t.positions + 0.1) for t in run.trajectories)
    plot_joints(replace(run, trajectories=apart), path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for colour in (MEASURED, COMMANDED):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        near = np.abs(pixels - wanted).max(axis=-1) < 40
        assert near.mean() > 0.0005


def test_a_run_without_anything_still_gets_its_report(tmp_path):
    from demo.run_data import JointTrack

    nothing = JointTrack(np.zeros(0), np.zeros((0, 7)))
    run = replace(
        good_run(), chunks=(), trajectories=(), inferences=(), statuses=(), subtasks=(),
        measured=nothing, reference=nothing,
    )  # fmt: skip
    write_report(tmp_path, run, [], judge(run, BOUNDS))
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert numbers["passed"] is False
    assert numbers["command_error_rms_rad"]["elbow"] is None


def test_the_summary_in_the_terminal_ends_with_every_check():
    run = good_run()
    checks = judge(run, BOUNDS)
    lines = summary_lines(run, checks)
    assert lines[0].startswith("  20 chunks in 8.0 s over quic, round trip p50 ")
    assert lines[1:] == [f"  {check}" for check in checks]
    assert summary(run, checks)["deadline_misses"] == 0


@pytest.mark.parametrize("transport", ["quic", "websocket"])
def test_the_summary_names_the_transport(transport):
    run = replace(good_run(), transport=transport)
    assert f"over {transport}" in summary_lines(run, [])[0]
