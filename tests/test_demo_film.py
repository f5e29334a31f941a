"""The demo's film: what each of its pictures shows, and the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from demo_runs import good_run
from PIL import Image, ImageColor

from demo.arguments import parse_arguments
from demo.film import (
    COMMANDED,
    FILM_SECONDS,
    HEIGHT,
    MEASURED,
    PANEL_LEFT,
    PLANNED,
    SCENE,
    WIDTH,
    film_pictures,
    write_film,
)
from demo.frames import Frame
from demo.run_data import Episode, Subtask


def camera_frames(times=(0.5, 1.0, 4.0), scene=(200, 30, 20), wrist=(20, 60, 200)):
    frames = []
    for time in times:
        for camera, colour in (("scene", scene), ("wrist", wrist)):
            frames.append(Frame(camera, time, np.full((240, 320, 3), colour, np.uint8)))
    return frames


def share_of(picture, colour, left=PANEL_LEFT):
    """Return the share of the plots' pixels, from a column to the right, that are near a colour."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)[24 : SCENE[1], left:]
    return float((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=-1) < 24).mean())


def test_of_a_trained_policy_it_says_the_prompt_and_how_often_it_was_done():
    done = Episode(1.0, "touch the red cube", 0, True, 0.9)
    run = replace(good_run(), prompt="touch the red cube", is_judged=True, subtasks=())
    (before, after), _ = film_pictures(
        replace(run, episodes=(done,)), camera_frames(times=(0.5, 1.5))
    )
    (other, same), _ = film_pictures(run, camera_frames(times=(0.5, 1.5)))
    words = (0, SCENE[1] + 36, WIDTH, HEIGHT)
    assert before.crop(words).tobytes() == other.crop(words).tobytes()
    assert after.crop(words).tobytes() != same.crop(words).tobytes()


def test_there_is_a_picture_for_each_image_of_the_main_camera():
    pictures, times = film_pictures(good_run(), camera_frames())
    assert times == [0.5, 1.0, 4.0]
    assert {picture.size for picture in pictures} == {(WIDTH, HEIGHT)}


def test_a_picture_holds_both_cameras_images():
    (picture, *_), _ = film_pictures(good_run(), camera_frames())
    assert picture.getpixel((20, 200)) == (200, 30, 20)
    assert picture.getpixel((SCENE[0] - 40, 40)) == (20, 60, 200)


def test_lines_grow_with_time_and_nothing_is_drawn_that_was_not_received_yet():
    run = good_run()
    pictures, _ = film_pictures(run, camera_frames(times=(0.5, 4.0)))
    middle = PANEL_LEFT + (WIDTH - PANEL_LEFT) // 2
    early, late = (share_of(p, MEASURED) for p in pictures)
    assert 0 < early < late / 3
    # nothing measured, commanded or planned lies in the second half of the axis at 0.5 s
    for colour in (MEASURED, COMMANDED, PLANNED):
        assert share_of(pictures[0], colour, middle + 40) == 0


def test_the_steps_to_come_are_those_of_the_newest_chunk_only():
    run = good_run()
    (picture,), _ = film_pictures(run, camera_frames(times=(4.0,)))
    assert share_of(picture, PLANNED) > 0
    without = replace(run, chunks=())
    (picture,), _ = film_pictures(without, camera_frames(times=(4.0,)))
    assert share_of(picture, PLANNED) == 0


def test_the_subtask_is_the_newest_one_of_the_moment():
    run = replace(good_run(), subtasks=(Subtask(0.0, "reach"), Subtask(2.0, "grasp the cube")))
    changed, _ = film_pictures(run, camera_frames(times=(1.0, 3.0)))
    same, _ = film_pictures(
        replace(run, subtasks=run.subtasks[:1]), camera_frames(times=(1.0, 3.0))
    )
    assert np.array_equal(np.asarray(changed[0]), np.asarray(same[0]))
    assert not np.array_equal(np.asarray(changed[1]), np.asarray(same[1]))


def test_the_file_plays_at_the_speed_of_the_run_with_the_colours_of_the_lines(tmp_path):
    path = tmp_path / "film.gif"
    write_film(good_run(), camera_frames(times=(0.5, 1.0, 4.0)), path)
    with Image.open(path) as film:
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        durations = []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
        assert durations == [500, 3000, 1000]
        film.seek(2)
        found = {
            tuple(colour) for colour in np.asarray(film.convert("RGB")).reshape(-1, 3).tolist()
        }
    assert found >= {ImageColor.getrgb(colour) for colour in (COMMANDED, MEASURED, PLANNED)}
    assert path.stat().st_size < 3_000_000


def test_a_film_without_images_is_refused(tmp_path):
    frames = camera_frames(times=(0.5,))
    with pytest.raises(ValueError, match="needs two images of camera scene, the run has 1"):
        write_film(good_run(), frames, tmp_path / "film.gif")
    assert not (tmp_path / "film.gif").exists()


def test_a_run_in_which_nothing_was_received_but_images_can_be_filmed(tmp_path):
    from demo.run_data import JointTrack

    nothing = JointTrack(np.zeros(0), np.zeros((0, 7)))
    run = replace(
        good_run(), chunks=(), trajectories=(), inferences=(), statuses=(), subtasks=(),
        measured=nothing, reference=nothing,
    )  # fmt: skip
    write_film(run, camera_frames(), tmp_path / "film.gif")
    assert (tmp_path / "film.gif").stat().st_size > 0


def test_a_run_of_the_usual_length_fills_the_film():
    assert parse_arguments([]).seconds >= FILM_SECONDS


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("film.png", "does not end with .gif"), ("no/such/film.gif", "a folder that does not exist")],
)
def test_a_path_that_cannot_hold_the_film_is_refused_before_the_run(path, wrong, capsys, tmp_path):
    with pytest.raises(SystemExit) as refused:
        parse_arguments(["--film", str(tmp_path / path)])
    assert refused.value.code == 2
    assert wrong in capsys.readouterr().err
