"""The rule of resampling, and which clocks count."""

from __future__ import annotations

import numpy as np

from openpi_flash_training.episodes.resample import ResampleRule, newest, resample
from openpi_flash_training.episodes.stamps import choose_times, without_steps_back

SECOND = 1_000_000_000


def every(hz: float, seconds: float, begin: float = 0.0) -> np.ndarray:
    return ((begin + np.arange(int((seconds - begin) * hz) + 1) / hz) * SECOND).astype(np.int64)


def seconds(times: np.ndarray) -> list[float]:
    return [round(t / SECOND, 6) for t in times.tolist()]


def test_frames_begin_with_the_last_stream_and_end_with_the_first():
    senses = {"camera": every(30, 3.0, begin=0.5), "joints": every(100, 2.5)}
    frames = resample(senses, {}, ResampleRule(fps=10))
    (piece,) = frames.pieces
    assert seconds(piece)[:2] == [0.5, 0.6]
    assert seconds(piece)[-1] == 2.5
    assert frames.left_out == 0


def test_a_frame_has_the_newest_sample_at_or_before_it():
    ms = 1_000_000
    times = np.array([0, 5, 9, 20]) * ms
    frames = np.array([0, 3, 5, 7, 9, 18, 20, 50]) * ms
    assert newest(times, frames).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert newest(times, times[1:] - 1).tolist() == [1, 2, 3]


def test_frames_do_not_drift():
    (piece,) = resample({"a": every(1000, 60.0)}, {}, ResampleRule(fps=15)).pieces
    assert len(piece) == 60 * 15 + 1
    assert piece[-1] == 60 * SECOND


def test_a_short_silence_is_held_and_counted():
    camera = np.delete(every(10, 4.0), [20, 21, 22])
    frames = resample({"camera": camera}, {}, ResampleRule(fps=10, max_gap=0.5))
    (piece,) = frames.pieces
    assert len(piece) == 41
    assert frames.streams["camera"].held == 3
    assert round(frames.streams["camera"].longest_gap, 3) == 0.4
    assert round(frames.streams["camera"].rate, 3) == 10


def test_a_long_silence_cuts_the_episode():
    camera = every(10, 6.0)
    camera = camera[(camera <= 2 * SECOND) | (camera >= 4 * SECOND)]
    frames = resample({"camera": camera}, {}, ResampleRule(fps=10, max_gap=0.5))
    first, second = frames.pieces
    assert seconds(first)[-1] == 2.5
    assert seconds(second)[0] == 4.0
    assert frames.left_out == 61 - len(first) - len(second) == 14


def test_a_command_holds_however_long_it_is_silent():
    commands = {"goal": np.array([0, 3 * SECOND])}
    (piece,) = resample({"camera": every(10, 6.0)}, commands, ResampleRule(fps=10)).pieces
    assert len(piece) == 61


def test_a_slow_stream_holds_nothing():
    frames = resample({"camera": every(5, 4.0)}, {}, ResampleRule(fps=20))
    assert frames.streams["camera"].held == 0


def test_skipped_samples_are_counted():
    frames = resample({"camera": every(30, 2.0)}, {}, ResampleRule(fps=10))
    assert frames.streams["camera"].skipped == 40


def test_short_pieces_are_left_out():
    frames = resample({"camera": every(10, 0.6)}, {}, ResampleRule(fps=10, min_length=1.0))
    assert frames.pieces == ()
    assert frames.left_out == 7


def test_stamps_count_where_they_agree_with_the_recording():
    received = every(10, 2.0) + 30_000_000
    chosen = choose_times(every(10, 2.0), received)
    assert chosen.times.tolist() == every(10, 2.0).tolist()
    assert chosen.note == ""


def test_stamps_of_another_clock_do_not_count():
    received = every(10, 2.0)
    chosen = choose_times(received - 100 * SECOND, received)
    assert chosen.times.tolist() == received.tolist()
    assert "its stamps are -100 s off the time of recording" in chosen.note


def test_stamps_that_jump_do_not_count():
    received = every(10, 2.0)
    stamps = received.copy()
    stamps[15:] += SECOND // 2
    chosen = choose_times(stamps, received)
    assert chosen.times.tolist() == received.tolist()
    assert "jump by up to 0.5 s" in chosen.note


def test_messages_that_are_not_later_are_left_out():
    chosen = choose_times(None, np.array([0, 10, 10, 8, 20]))
    assert chosen.times.tolist() == [0, 10, 20]
    assert chosen.kept.tolist() == [0, 1, 4]
    assert "2 of its 5 messages" in chosen.note


def test_a_recorders_clock_that_is_set_back_goes_on():
    received = np.array([0, 1, 2, -7, -6, -5]) * SECOND
    times, steps = without_steps_back(received)
    assert steps == 1
    assert (times // SECOND).tolist() == [0, 1, 2, 2, 3, 4]
