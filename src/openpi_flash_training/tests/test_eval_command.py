"""`openpi-flash eval` as its users start it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from bags import Arm, write_mcap
from drawing import needs_pictures
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.commands.eval import GRID_METHODS
from openpi_flash_training.commands.eval_cells import Gate
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.evaluation.conditions import METHODS
from openpi_flash_training.evaluation.measures import Share
from openpi_flash_training.evaluation.policy_choice import PolicyChoice

THROUGH_ROS = ("--policy", "expert", "--through", "ros")


def run(*arguments):
    result = CliRunner().invoke(app, ["eval", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def dataset(*arguments):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def test_a_grid_plays_every_chunk_method_there_is():
    rest = ("--delay", "0", "--loss", "0", "--held", "0", "--json")
    result = run("--policy", "expert", "--task", "touch", "--episodes", "1", "--grid", *rest)
    assert result.exit_code == 0, result.output
    cells = json.loads(result.stdout)["cells"]
    assert [cell["method"] for cell in cells] == sorted(METHODS, key=GRID_METHODS.split(",").index)


def test_the_expert_is_measured_and_the_numbers_are_json():
    result = run("--policy", "expert", "--episodes", "3", "--delay", "0,50", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [cell["delay_ms"] for cell in found["cells"]] == [0, 50]
    assert all(cell["success"] == 1.0 for cell in found["cells"])
    assert found["cells"][0]["confusion"]["red"] == {"red": 1, "green": 0, "blue": 0, "nothing": 0}


def test_the_gate_fails_where_success_is_too_low_and_names_it():
    given = ("--policy", "expert", "--episodes", "3", "--at-least", "0.8")
    assert run(*given).exit_code == 0
    # a policy that takes longer than an episode never moves
    result = run(*given, "--inference-ms", "9000")
    assert result.exit_code == 1
    assert "touch: 0 of 3 [0.00, 0.56] is below 0.8" in result.stderr


def test_the_gate_of_swapped_prompts_asks_for_the_new_colour_and_not_for_the_old(capsys):
    given = ("--policy", "expert", "--episodes", "3", "--swap-prompts")
    gates = ("--swapped-at-least", "0.9", "--old-colour-at-most", "0.05")
    assert run(*given, *gates).exit_code == 0
    result = run(*given, *gates, "--inference-ms", "9000")
    assert result.exit_code == 1
    faults = "touch with the next colour in the prompt: 0 of 3 [0.00, 0.56] is below 0.9"
    assert result.stderr == f"error: {faults}\n"
    # one that does not read its prompt
    blind = SimpleNamespace(
        task="touch", is_swapped=True, success=Share(0, 9), plain_cube=Share(9, 9)
    )
    with pytest.raises(typer.Exit):
        Gate(plain=1.0, old_colour=0.05).check({"blind": [blind]})
    assert "the old colour 9 of 9 [0.70, 1.00] is above 0.05" in capsys.readouterr().err
    Gate(plain=1.0).check({"blind": [blind]})


@needs_pictures
def test_a_report_is_one_file_with_tables_plots_and_a_film(tmp_path):
    report = tmp_path / "report.html"
    result = run(
        *("--policy", "expert", "--episodes", "3", "--delay", "0,150", "--swap-prompts"),
        *("--films", "1", "--report", str(report)),
    )
    assert result.exit_code == 0, result.output
    page = report.read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:video/mp4;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "the colour before: 0 / 3" in page


def nothing_is_played(monkeypatch):
    def played(*_, **__):
        raise AssertionError("an episode was played")

    monkeypatch.setattr("openpi_flash_training.evaluation.run.run_policies", played)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing/report.html", "there is no folder"), ("", "is a folder; a report is one file")],
)
def test_a_report_without_a_place_is_refused_before_anything_is_played(
    name, message, tmp_path, monkeypatch
):
    nothing_is_played(monkeypatch)
    file = tmp_path / name
    result = run("--policy", "expert", "--episodes", "1", "--report", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {file}: ")
    assert message in result.stderr


@needs_pictures
def test_episodes_are_recorded_with_the_method_that_played_them(tmp_path):
    given = ("--policy", "expert", "--episodes", "2", "--method", "latest,open_loop")
    result = run(*given, "--record", str(tmp_path / "set"), "--json")
    assert result.exit_code == 0, result.output
    episodes = Dataset.open(tmp_path / "set").episodes
    assert [e.facts["method"] for e in episodes] == ["latest"] * 2 + ["open_loop"] * 2
    assert all(e.facts["success"] for e in episodes)


@needs_pictures
def test_what_is_recorded_is_appended_to_what_was_converted(tmp_path):
    """Both have the same column of interventions."""
    bag = write_mcap(tmp_path / "run.mcap", Arm(interventions=((1.0, 2.0),)).messages())
    options = ("--robot", "sim_arm", "--task", "t", "--fps", "10", "--no-lint")
    made = dataset("convert", bag, tmp_path / "converted", *options)
    assert made.exit_code == 0, made.output
    converted = Dataset.open(tmp_path / "converted")
    # without the cameras, which are not the simulation's
    columns = {key: converted.features[key] for key in ("observation.state", "action")}
    columns["intervention"] = converted.features["intervention"]
    with DatasetWriter(tmp_path / "set", 10, columns, "sim_arm") as writer:
        writer.add_episode("t", converted.numbers(0, list(columns)))
    played = tmp_path / "played"
    assert run("--policy", "expert", "--episodes", "1", "--record", str(played)).exit_code == 0
    appended = dataset("append", played, tmp_path / "set", "--no-lint")
    assert appended.exit_code == 0, appended.output
    both = Dataset.open(tmp_path / "set")
    assert [both.numbers(i)["intervention"].sum() for i in (0, 1)] == [10, 0]


@needs_pictures
def test_what_is_recorded_does_not_depend_on_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    given = ("--policy", "expert", "--episodes", "3", "--seed", "5")
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert run(*given, "--workers", str(workers), "--record", str(out)).exit_code == 0
    one, two = Dataset.open(tmp_path / "1"), Dataset.open(tmp_path / "2")
    assert [row.length for row in one.episodes] == [row.length for row in two.episodes]
    for row in one.episodes:
        for camera in one.cameras:
            assert one.image_files(row.index, camera) == two.image_files(row.index, camera)
        for key, values in one.numbers(row.index).items():
            np.testing.assert_array_equal(values, two.numbers(row.index)[key])


@needs_pictures
def test_a_process_that_draws_and_is_killed_is_said_by_the_dataset_s_name(tmp_path, monkeypatch):
    monkeypatch.setattr("openpi_flash_training.demonstrations.recording._draw", die)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    given = ("--policy", "expert", "--episodes", "2", "--workers", "2")
    result = run(*given, "--record", str(tmp_path / "set"))
    assert result.exit_code == 1
    assert (
        f"{tmp_path / 'set'}: holds 0 of 2 episodes, because a process that drew" in result.stderr
    )


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


@needs_pictures
def test_a_folder_in_use_is_refused_before_anything_is_played(tmp_path, monkeypatch):
    nothing_is_played(monkeypatch)
    (tmp_path / "notes.txt").write_text("mine")
    result = run("--policy", "expert", "--episodes", "1", "--record", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path}: is not empty\n"


@needs_pictures
def test_an_evaluation_that_cannot_be_recorded_is_printed_all_the_same(tmp_path, monkeypatch):
    def add(*_, **__):
        raise DataError(tmp_path / "set", "cannot write: No space left on device")

    monkeypatch.setattr("openpi_flash_training.demonstrations.recording.DatasetRecorder.add", add)
    given = ("--policy", "expert", "--episodes", "1", "--json")
    result = run(*given, "--record", str(tmp_path / "set"), "--report", str(tmp_path / "r.html"))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["cells"][0]["success"] == 1.0
    assert result.stderr.endswith("cannot write: No space left on device\n")
    assert (tmp_path / "r.html").exists()


@needs_pictures
def test_an_evaluation_that_fails_leaves_no_empty_dataset(tmp_path):
    server = ("--server", "127.0.0.1:9", "--transport", "websocket", "--episodes", "1")
    assert run(*server, "--record", str(tmp_path / "set")).exit_code == 1
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "juggle"), "'juggle' is not one of touch, pick, place"),
        (("--policy", "expert", "--method", "magic"), "'magic' is not one of latest"),
        (("--policy", "expert", "--delay", "soon"), "'soon' is no list of numbers"),
        (("--policy", "expert", "--loss", "1.2"), "loss is 1.2"),
        (
            (*THROUGH_ROS, "--delay", "50", "--workers", "2"),
            "--delay, --workers: not with --through ros",
        ),
        ((*THROUGH_ROS, "--method", "stop_and_go"), "'stop_and_go' is not one of latest"),
        (
            ("--dataset", "set", "--record", "d", "--at-least", "0.5"),
            "--record, --at-least: not with --dataset",
        ),
        (("--swapped-at-least", "0.5"), "--swapped-at-least: only with --swap-prompts"),
        (
            ("--policy", "expert", "--checkpoint", "c", "--server", "a:1"),
            "--server, --checkpoint: not with --policy expert",
        ),
        (("--policy", "pi05_sim_arm", "--server", "a:1"), "--policy: not with --server alone"),
        (
            ("--robot-file", "r.yaml", "--server", "a:1"),
            "--robot-file: only with --checkpoint or --policy python:MODULE:NAME",
        ),
        (("--transport", "quic", "--checkpoint", "c"), "--transport: only with --server"),
        (
            ("--server", "a:1", "--checkpoint", "c", "--report", "r.html"),
            "--report: with one policy only",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_starts(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.output)


def test_servers_and_checkpoints_play_the_same_episodes_in_one_run(monkeypatch):
    asked = []

    def expert_at(server: str, transport: str, link: dict) -> PolicyChoice:
        asked.append((server, transport, link))
        return None

    @contextlib.contextmanager
    def serving(config, checkpoint, *, planner, robot_file):
        asked.append((config, checkpoint))
        yield None

    # the expert answers for both
    monkeypatch.setattr("openpi_flash_training.evaluation.served_policy.ServerChoice", expert_at)
    monkeypatch.setattr("openpi_flash_training.evaluation.server_process.serving", serving)
    result = run("--server", "a:1", "--checkpoint", "c", "--episodes", "1", "--json")
    assert result.exit_code == 0, result.output
    assert asked == [("a:1", "auto", {}), ("pi05_sim_arm", "c")]
    first, second = json.loads(result.stdout)["policies"]
    assert (first["policy"], second["policy"]) == ("a:1", "c")
    assert first["cells"] == second["cells"]


def test_without_a_policy_the_one_that_comes_with_the_arm_is_served(monkeypatch, tmp_path):
    monkeypatch.setattr("sim_robot.shipped_policy.FOLDER", tmp_path)
    nothing = run()
    assert nothing.exit_code == 2
    assert "name what to measure" in re.sub(r"[\s│]+", " ", nothing.output)

    (tmp_path / "weights" / "params").mkdir(parents=True)
    served = []

    @contextlib.contextmanager
    def serving(config, checkpoint, *, planner, robot_file):
        served.append((config, checkpoint, planner, robot_file.name))
        yield None  # the expert answers

    monkeypatch.setattr("openpi_flash_training.evaluation.server_process.serving", serving)
    assert run("--episodes", "1").exit_code == 0
    assert served == [
        ("pi05_sim_cubes", str(tmp_path / "weights"), None, "sim_cubes.yaml"),
    ]


def test_a_server_that_is_not_there_is_an_error_of_one_line():
    result = run("--server", "127.0.0.1:9", "--transport", "websocket", "--episodes", "3")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: 127.0.0.1:9")


@needs_pictures
def test_a_policy_that_only_sees_pictures_is_served_and_touches_the_named_cube(monkeypatch):
    """The whole way: cameras, server, chunks, player. Where cubes are, only pictures say."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    result = run(
        *("--policy", "python:colour_policy:ColourPolicy", "--episodes", "6"),
        *("--at-least", "0.8", "--swap-prompts", "--json"),
        *("--swapped-at-least", "0.8", "--old-colour-at-most", "0.2"),
    )
    assert result.exit_code == 0, result.output
    plain, swapped = json.loads(result.stdout)["cells"]
    assert swapped["success"] >= 0.8
    assert swapped["plain_cube"] <= 0.2
    assert plain["stages"]["reach"] >= plain["success"]


@needs_pictures
def test_a_planner_beside_the_policy_is_heard(tmp_path):
    made = CliRunner().invoke(app, ["make-demo-checkpoint", str(tmp_path / "demo")])
    assert made.exit_code == 0, made.output
    result = run(
        *("--checkpoint", str(tmp_path / "demo/action")),
        *("--planner", str(tmp_path / "demo/planner"), "--episodes", "1", "--json"),
    )
    assert result.exit_code == 0, result.output
    (cell,) = json.loads(result.stdout)["cells"]
    # random words, and one for each chunk
    assert cell["subtasks_said"] > 3
    assert cell["subtasks_agreed"] == 0


def test_a_planner_needs_a_policy_beside_it():
    result = run("--planner", "somewhere", "--episodes", "1")
    assert result.exit_code == 2
    assert "--planner needs --checkpoint" in result.stderr
