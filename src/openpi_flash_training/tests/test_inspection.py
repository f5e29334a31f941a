"""Looking at datasets, and the checks of lint: each finds what it is for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.inspection.finding import Finding
from openpi_flash_training.inspection.lint import lint
from openpi_flash_training.inspection.motion_checks import Column, check_timestamps, measure_lag

FPS = 10
CAMERA = "observation.images.scene"
NAMES = ("shoulder", "elbow", "gripper")


def motion(rng: np.random.Generator, length: int) -> np.ndarray:
    """Smooth random motion, and a gripper that closes half way."""
    steps = rng.normal(0, 0.1, (length, 3)).cumsum(axis=0)
    steps[:, 2] = np.arange(length) >= length // 2
    return steps


class Maker:
    """A clean dataset of four episodes, which tests spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(4)
        self.actions = [motion(rng, 40) for _ in range(4)]
        # the state follows one frame later
        self.states = [np.concatenate([a[:1], a[:-1]]) for a in self.actions]
        self.tasks = ["pick", "place", "pick", "place"]
        self.images = [rng.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8) for _ in range(4)]

    def write(self) -> Dataset:
        features = {
            "observation.state": Feature("float32", (3,), NAMES),
            "action": Feature("float32", (3,), NAMES),
            CAMERA: Feature("image", (16, 16, 3)),
        }
        with DatasetWriter(self.folder, FPS, features) as writer:
            for state, action, task, images in zip(
                self.states, self.actions, self.tasks, self.images, strict=True
            ):
                numbers = {"observation.state": state, "action": action}
                writer.add_episode(task, numbers, {CAMERA: images})
        return Dataset.open(self.folder)

    def findings(self) -> list[Finding]:
        return list(lint(self.write()))


@pytest.fixture
def maker(tmp_path) -> Maker:
    return Maker(tmp_path / "set")


def test_a_clean_dataset_has_no_finding(maker):
    assert maker.findings() == []


def the_only(findings: list[Finding], check: str) -> Finding:
    assert [finding.check for finding in findings] == [check], findings
    return findings[0]


def test_a_number_that_never_changes(maker):
    for values in (*maker.states, *maker.actions):
        values[:, 1] = 0.5
    checks = [(f.check, f.message[:28]) for f in maker.findings()]
    assert checks == [
        ("constant", "observation.state[1] (elbow)"),
        ("constant", "action[1] (elbow) is 0.5 in "),
    ]


def test_an_outlier(maker):
    maker.states[2][17, 0] = 60.0
    found = the_only(maker.findings(), "outlier")
    assert found.episode == 2
    assert "observation.state[0] (shoulder) is 60 at frame 17" in found.message
    assert "1 frames in 1 episodes" in found.message


def test_a_gripper_that_never_closes(maker):
    maker.states[1][:, 2] = maker.actions[1][:, 2] = 0
    findings = maker.findings()
    assert {f.check for f in findings} == {"gripper"}
    assert "gripper) hardly moves in episodes 1 " in findings[0].message


def test_standing_still(maker):
    for values in (maker.states[3], maker.actions[3]):
        values[:30] = values[0]
    messages = [f.message for f in maker.findings() if f.check == "idle"]
    assert any("more than 30% in episodes 3" in message for message in messages)
    assert any("in the first" in message for message in messages)


@pytest.mark.parametrize(("shift", "said"), [(6, "0.60 s later"), (-3, "0.30 s later")])
def test_state_and_action_with_different_clocks(maker, shift, said):
    for i, action in enumerate(maker.actions):
        if shift > 0:
            maker.states[i] = np.concatenate([np.repeat(action[:1], shift, 0), action[:-shift]])
        else:
            maker.states[i] = np.concatenate([action[-shift:], np.repeat(action[-1:], -shift, 0)])
    found = the_only(maker.findings(), "lag")
    assert said in found.message
    follows = "state follows the action" if shift > 0 else "action follows the state"
    assert follows in found.message


def test_the_lag_is_measured():
    rng = np.random.default_rng(0)
    action = rng.normal(size=(200, 2)).cumsum(axis=0)
    state = np.roll(action, 4, axis=0)
    names = ("a", "b")
    measured = measure_lag(Column("s", names, (state,)), Column("a", names, (action,)), 20)
    assert measured is not None
    assert measured[0] == pytest.approx(0.2)
    assert measure_lag(Column("s", ("c",), (state,)), Column("a", ("d",), (action,)), 20) is None


def test_images_that_stand_still_while_the_robot_moves(maker):
    maker.images[2][10:30] = maker.images[2][10]
    found = the_only(maker.findings(), "frozen images")
    assert f"{CAMERA} shows one image for 1 s or more" in found.message
    assert "in episodes 2 (4 were looked at)" in found.message


def test_images_that_repeat(maker):
    for images in maker.images:
        images[1::2] = images[::2]
    assert "repeats more than 20%" in the_only(maker.findings(), "repeated images").message


def test_a_camera_that_is_covered(maker):
    noise = np.random.default_rng(1).integers(0, 2, maker.images[0].shape)
    maker.images[0] = noise.astype(np.uint8)
    assert (
        "is black in episodes 0 (4 were looked at)"
        in the_only(maker.findings(), "black images").message
    )


def test_prompts_that_are_rare_or_written_in_two_ways(maker):
    maker.tasks = ["pick", "Pick.", "pick", "pick"]
    found = the_only(maker.findings(), "prompts")
    assert found.message == "differ only in how they are written: 'pick', 'Pick.'"


def test_a_rare_prompt(maker):
    for values in (maker.states, maker.actions, maker.images):
        values[3] = values[3][16:23]
    maker.tasks = ["pick", "pick", "pick", "place"]
    found = [f for f in maker.findings() if f.check == "prompts"]
    assert "'place' (7 frames)" in found[0].message


def test_an_empty_prompt_is_an_error(maker):
    maker.tasks[1] = " "
    found = the_only(maker.findings(), "prompts")
    assert (found.level, found.message) == ("error", "the task is empty in episodes 1")


def test_one_frame_is_an_error(maker):
    for values in (maker.states, maker.actions, maker.images):
        values[0] = values[0][:1]
    errors = [f for f in maker.findings() if f.level == "error"]
    assert [(f.check, f.episode) for f in errors] == [("length", 0)]


def test_nan_of_another_writer_is_an_error(maker, monkeypatch):
    maker.states[1][5, 2] = np.nan
    monkeypatch.setattr(
        "openpi_flash_training.dataset.writer.fit_numbers",
        lambda feature, values, length: np.asarray(values, feature.dtype),
    )
    with np.errstate(all="ignore"):
        found = the_only(maker.findings(), "not finite")
    assert found.level == "error"
    assert str(found).startswith(
        "error: not finite: episode 1: observation.state[2] (gripper) is nan at frame 5"
    )


def test_gaps_in_the_times():
    times = np.arange(20) / FPS
    times[12:] += 0.25
    (found,) = check_timestamps([np.arange(5) / FPS, times], FPS)
    assert found.episode == 1
    assert found.message.startswith("0.350 s from frame 11 to 12, expected 0.100 s; 1 such")


def test_a_truncated_video_is_an_error(tmp_path):
    from test_dataset import write

    folder = write(tmp_path / "set")
    video = next(folder.rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:1000])
    errors = [f for f in lint(Dataset.open(folder)) if f.level == "error"]
    assert [f.episode for f in errors] == [0, 1, 2]
    assert "file-000.mp4 is not a video" in errors[0].message


def run(*arguments: object):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def test_lint_ends_with_1_after_an_error(maker):
    maker.write()
    result = run("lint", maker.folder)
    assert (result.exit_code, "nothing to complain about" in result.output) == (0, True)
    other = Maker(maker.folder.parent / "other")
    other.tasks = ["pick", "Pick.", "pick", "pick"]
    other.write()
    assert run("lint", other.folder).exit_code == 0
    assert run("lint", other.folder, "--strict", "--no-images").exit_code == 1
    empty = Maker(maker.folder.parent / "empty")
    empty.tasks[0] = ""
    empty.write()
    assert run("lint", empty.folder).exit_code == 1


def test_inspect_prints_and_draws(maker, tmp_path):
    maker.write()
    result = run("inspect", maker.folder, "--episodes", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    for words in (
        "4, 160 frames at 10 Hz, 16.0 s; 4.0 to 4.0 s long, median 4.0 s",
        "'pick': 2 episodes, 80 frames",
        f"{CAMERA}: image 16 x 16 x 3",
        "the state follows the action by 0.10 s (correlation 1.00)",
        "gripper",
        "      3      40     4.0  place",
    ):
        assert words in result.output
    for name in ("overview.png", "episode.png", "contact_sheet.png"):
        with Image.open(tmp_path / "plots" / name) as image:
            assert min(image.size) > 100
    result = run("inspect", maker.folder, "--plots", tmp_path / "plots", "--episode", 4)
    assert "episode 4: does not exist; there are 4" in result.output


def test_plots_without_a_place_are_an_error_of_one_line(maker, tmp_path):
    maker.write()
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file/plots"
    result = run("inspect", maker.folder, "--plots", folder)
    assert result.exit_code == 1
    assert result.stderr == f"error: {folder}: not a directory; name another by --plots\n"
