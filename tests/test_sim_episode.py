"""Episodes of the simulated robot: how they are ordered, judged and told. Pure."""

from __future__ import annotations

import numpy as np
import pytest

from sim_robot.episode import (
    EpisodeOrder,
    OrderError,
    RunningEpisode,
    order_of_prompt,
    parse_order,
)
from sim_robot.plant import Plant
from sim_robot.scene_report import SceneReport, parse_report
from sim_robot.starts import spread
from sim_robot.tasks import Outcome


def test_an_order_reads_back_and_has_the_start_that_evaluations_have():
    order = EpisodeOrder("pick", "green_cube", 7, 12)
    assert str(order) == "pick green 7 12"
    assert parse_order(str(order)) == order
    assert order.prompt == "pick up the green cube"
    assert order.start() == spread(np.random.default_rng((7, 12)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("touch blue 7", "'touch blue 7' is not of the form 'TASK COLOUR SEED INDEX'"),
        ("throw blue 7 3", "the task 'throw' is not one of touch, pick, place"),
        ("touch pink 7 3", "the colour 'pink' is not one of red, green, blue"),
        ("touch blue -7 3", "seed and index of 'touch blue -7 3' are not whole numbers"),
    ],
)
def test_a_text_that_is_no_order_is_refused_with_the_reason(text, problem):
    with pytest.raises(OrderError, match=problem):
        parse_order(text)


def test_a_prompt_names_its_order_and_other_words_none():
    found = order_of_prompt("put the blue cube on the plate", 1, 2)
    assert found == EpisodeOrder("place", "blue_cube", 1, 2)
    assert order_of_prompt("make coffee", 1, 2) is None


def test_a_report_reads_back_with_the_episode_s_progress():
    order = EpisodeOrder("touch", "red_cube", 0, 0)
    plant = Plant()
    plant.place(order.start())
    episode = RunningEpisode(order, 3)
    episode.look(plant.state())
    report = SceneReport(
        stamp_ns=1_700_000_000_123_456_789,
        state=plant.state(),
        episode=episode.number,
        progress=episode.progress,
        pictures=4,
        commanded=((0.1, 0.0, 0.0, 0.0, 0.0, -0.2),),
    )
    assert parse_report(report.to_json()) == report
    assert report.progress.outcome is Outcome.RUNNING
