"""Frames to samples: what serving does to a request, and chunks of the horizon."""

import json
import pickle
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from train_runs import (
    CAMERAS,
    LENGTHS,
    TASKS,
    small_settings,
    small_tree,
    write_dataset,
    write_statistics,
)

from openpi_flash_models.actions.fast import FastTokenizer
from openpi_flash_models.actions.tokens import FastActionDecoder
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.policy.observation_reader import ObservationReader
from openpi_flash_models.text.tokenizer import EOS_ID, PaligemmaTokenizer
from openpi_flash_models.transforms.images import resize_with_pad
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.train.assemble import assemble
from openpi_flash_training.train.labels import as_shares, standardisation
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.texts import fast_text, subtask_text

MODEL_DATA = Path(__file__).parents[2] / "openpi_flash_models/tests/data"


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    return assemble(small_settings(tmp_path_factory.mktemp("samples")))


def reader_of(assembled):
    """The serving side's transforms, with the same statistics."""
    recipe = assembled.samples.recipe
    return ObservationReader(
        assembled.config,
        assembled.shape,
        recipe.stats,
        PaligemmaTokenizer(recipe.tokenizer),
        None,
        normalization=recipe.normalization,
    )


def test_there_is_a_sample_for_each_frame(assembled):
    assert len(assembled.samples) == sum(LENGTHS)


def test_a_sample_is_what_serving_makes_of_the_frame(assembled):
    dataset, number = assembled.samples.dataset, LENGTHS[0] + 2  # the third frame of episode 1
    state = dataset.numbers(1)["observation.state"][2]
    request = {
        "observation/scene_image": dataset.images(1, "observation.images.scene", [2])[0],
        "observation/wrist_image": dataset.images(1, "observation.images.wrist", [2])[0],
        "observation/state": state,
        "prompt": TASKS[1],
    }
    served = reader_of(assembled).model_inputs(request, state)
    sample = assembled.samples[number]
    assert (sample["prompt"]["ids"] == served.tokens[0]).all()
    assert (sample["prompt"]["mask"] == served.token_mask[0]).all()
    for place, slot in enumerate(("base_0_rgb", "left_wrist_0_rgb")):
        assert (sample["images"][slot] == served.images[0, place]).all()
        assert sample["image_masks"][slot]
    side = sample["images"]["base_0_rgb"].shape[0]
    scaled = resize_with_pad(request["observation/scene_image"], side, side)
    assert (sample["images"]["base_0_rgb"] == scaled).all()


def test_samples_can_be_sent_to_workers(assembled):
    sent = pickle.loads(pickle.dumps(assembled.samples))
    for one, other in zip(
        jax.tree.leaves(assembled.samples[3]), jax.tree.leaves(sent[3]), strict=True
    ):
        assert np.array_equal(one, other)


def test_a_camera_that_the_robot_lacks_is_left_out(assembled):
    assert assembled.loss.cameras == ("base_0_rgb", "left_wrist_0_rgb")
    assert list(assembled.samples[0]["images"]) == ["base_0_rgb", "left_wrist_0_rgb"]


def test_a_chunk_goes_back_to_the_recorded_actions(assembled):
    actions = assembled.samples.dataset.numbers(0)["action"]
    sample = assembled.samples[0]
    horizon = assembled.config.action_horizon
    assert sample["actions"].shape == (horizon, 32)
    assert sample["actions"].dtype == np.float32
    assert (sample["actions"][:, 7:] == 0).all()
    state = assembled.samples.dataset.numbers(0)["observation.state"][0]
    back = reader_of(assembled).to_robot(sample["actions"], state)
    assert np.abs(back[: LENGTHS[0]] - actions).max() < 1e-5


def test_a_chunk_past_the_end_repeats_the_last_action(assembled):
    last = assembled.samples[LENGTHS[0] - 1]["actions"]  # the last frame of episode 0
    assert (last == last[0]).all()
    before = assembled.samples[LENGTHS[0] - 2]["actions"]
    assert (before[1:] == last[0]).all()
    assert not (before[0] == last[0]).all()


def test_an_episode_of_one_frame_is_a_sample(tmp_path):
    write_dataset(tmp_path / "dataset", (1, 3))
    tree = small_tree(tmp_path / "other")
    tree["data"]["dataset"] = str(tmp_path / "dataset")
    samples = assemble(small_settings(tmp_path / "other", data=tree["data"])).samples
    assert len(samples) == 4
    assert (samples[0]["actions"] == samples[0]["actions"][0]).all()


def test_the_prompt_may_be_the_settings(tmp_path):
    words = assemble(small_settings(tmp_path)).samples
    own = assemble(small_settings(tmp_path, data={"prompt": TASKS[1]})).samples
    assert (own[0]["prompt"]["ids"] != words[0]["prompt"]["ids"]).any()  # episode 0 has task 0
    second = LENGTHS[0]
    assert (own[second]["prompt"]["ids"] == words[second]["prompt"]["ids"]).all()


def test_pi0_gets_the_state_beside_the_prompt(tmp_path):
    weights = {"weights": None, "size": "tiny", "tokenizer": str(tmp_path / "words.model")}
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(
        "configs:\n"
        "  - {name: pi0_test_arm, robot: sim_arm, model: pi0, asset_id: sim_arm, "
        "action_horizon: 5}\n"
    )
    model = {"config": "pi0_test_arm", "robot_file": str(robot_file), **weights}
    sample = assemble(small_settings(tmp_path, model=model)).samples[0]
    assert sample["state"].shape == (32,)
    assert (sample["state"][7:] == 0).all()


def test_a_number_that_is_not_finite_names_episode_and_frame(assembled):
    numbers = {k: v.copy() for k, v in assembled.samples.dataset.numbers(2).items()}
    numbers["action"][3] = np.nan
    samples = type(assembled.samples)(assembled.samples.dataset, assembled.samples.recipe)
    samples._numbers[2] = numbers
    with pytest.raises(DataError, match=r"episode 2: frame 0: an action is not finite"):
        samples[sum(LENGTHS[:2])]


def test_a_dataset_without_an_episode_is_refused(tmp_path):
    features = {camera: Feature("image", (32, 32, 3)) for camera in CAMERAS}
    features |= {name: Feature("float32", (7,)) for name in ("observation.state", "action")}
    DatasetWriter(tmp_path / "dataset", 25, features).close()
    write_statistics(tmp_path / "dataset", {n: np.ones((9, 7)) for n in ("state", "actions")})
    with pytest.raises(DataError, match="dataset: has no episode to train on"):
        assemble(small_settings(tmp_path))


def test_a_camera_that_is_not_found_is_named_by_a_setting(tmp_path):
    hand, (_, wrist) = "observation.images.hand", CAMERAS
    features = {camera: Feature("image", (32, 32, 3)) for camera in (hand, wrist)}
    features |= {name: Feature("float32", (7,)) for name in ("observation.state", "action")}
    with DatasetWriter(tmp_path / "dataset", 25, features) as writer:
        numbers = {name: np.ones((2, 7), np.float32) for name in ("observation.state", "action")}
        images = {camera: np.zeros((2, 32, 32, 3), np.uint8) for camera in (hand, wrist)}
        writer.add_episode("pick", numbers, images)
    rows = np.arange(63.0).reshape(9, 7)
    write_statistics(tmp_path / "dataset", {"state": rows, "actions": rows})
    named = """name it by --set 'data.columns={"observation/scene_image": "COLUMN"}'"""
    with pytest.raises(DataError, match=re.escape(f"{named}; there are {hand}, {wrist}")):
        assemble(small_settings(tmp_path))
    columns = {"observation/scene_image": hand}
    assert len(assemble(small_settings(tmp_path, data={"columns": columns})).samples) == 2


def test_statistics_of_another_robot_are_refused(tmp_path):
    settings = small_settings(tmp_path)
    file = tmp_path / "dataset/assets/sim_arm/norm_stats.json"
    stats = json.loads(file.read_text())
    stats["norm_stats"]["state"] = {k: v[:4] for k, v in stats["norm_stats"]["state"].items()}
    file.write_text(json.dumps(stats))
    with pytest.raises(CheckpointError, match="state has 4 dimensions, the robot sim_arm has 7"):
        assemble(settings)


def test_missing_statistics_name_the_places(tmp_path):
    settings = small_settings(tmp_path)
    (tmp_path / "dataset/assets/sim_arm/norm_stats.json").unlink()
    with pytest.raises(CheckpointError, match="no statistics for sim_arm .*openpi-flash stats"):
        assemble(settings)


@pytest.mark.parametrize("where", ["norm_stats.json", "sim_arm/norm_stats.json"])
def test_statistics_may_be_named(where, tmp_path):
    small_tree(tmp_path)
    file = tmp_path / "own" / where
    file.parent.mkdir(parents=True)
    (tmp_path / "dataset/assets/sim_arm/norm_stats.json").rename(file)
    settings = small_settings(tmp_path, data={"statistics": str(tmp_path / "own")})
    assert assemble(settings).samples.recipe.stats.source == str(file)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"subtask": "subtask"}}, "data.subtask: the dataset has no column subtask"),
        ({"data": {"subtask": "action"}}, "data.subtask: the column action is float32, no text"),
        ({"data": {"subtask_texts": ["a"]}}, "data.subtask_texts: needs data.subtask"),
        ({"loss": {"extra": {"coordinates": 3}}}, "loss.extra: .* by data.labels.positions"),
        (
            {"loss": {"extra": {"objects": 1}}, "data": {"labels": {"points": "nowhere"}}},
            "data.labels.points: the dataset has no column nowhere",
        ),
        (
            {"loss": {"extra": {"objects": 1}}, "data": {"labels": {"points": "action"}}},
            r"data.labels.points: .* has the shape \[7\], expected \[2, 1, 2\]",
        ),
        ({"data": {"labels": {"point": "a"}}}, "data.labels.point: there are no such labels"),
        ({"data": {"chunks": "action"}}, r"data.chunks: .* \[7\], expected \[50 or more, 7\]"),
        ({"data": {"prompts": ["a"]}}, "data.prompts: needs data.chunks"),
        ({"loss": {"max_delay": 50}}, "loss.max_delay: is 50, expected less than the horizon"),
        (
            {"model": {"size": "tinny", "weights": None, "tokenizer": "{root}/words.model"}},
            r"model.size: there is no 'tinny', did you mean tiny\?",
        ),
        ({"model": {"weights": None}}, "model.weights, model.size: give one of them"),
        ({"model": {"tokenizer": "/no/file"}}, "model.tokenizer: no such file"),
    ],
)
def test_settings_that_the_dataset_cannot_serve_are_named(sections, message, tmp_path):
    written = json.loads(json.dumps(sections).replace("{root}", str(tmp_path)))
    with pytest.raises(SettingsError, match=message):
        assemble(small_settings(tmp_path, **written))


TASKS_OF_GROUPS = ["pick red", "pick blue", "push red", "push blue"]


def write_labelled(folder, *, height=24, width=32, tasks=("pick",)):
    """Episodes of two frames, with chunks for two prompts and labels of one object."""
    features = {camera: Feature("image", (height, width, 3)) for camera in CAMERAS}
    features |= {name: Feature("float32", (7,)) for name in ("observation.state", "action")}
    features |= {
        "chunks": Feature("float32", (2, 60, 7)),
        "pixels": Feature("float32", (2, 1, 2)),
        "visible": Feature("float32", (2, 1)),
        "places": Feature("float32", (2, 3)),
        "stages": Feature("int64", (2,)),
    }
    random = np.random.default_rng(0)
    numbers = {
        "observation.state": random.normal(size=(2, 7)).astype(np.float32),
        "action": random.normal(size=(2, 7)).astype(np.float32),
        "chunks": random.normal(size=(2, 2, 60, 7)).astype(np.float32),
        "pixels": np.full((2, 2, 1, 2), (16.0, 12.0), np.float32),
        "visible": np.array([[[1.0], [1.0]], [[1.0], [0.0]]], np.float32),
        "places": random.normal(size=(2, 2, 3)).astype(np.float32),
        "stages": np.array([[0, 1], [1, 2]]),
    }
    images = {camera: np.zeros((2, height, width, 3), np.uint8) for camera in CAMERAS}
    with DatasetWriter(folder, fps=25, features=features) as writer:
        for task in tasks:
            writer.add_episode(task, numbers, images)
    rows = {"state": numbers["observation.state"], "actions": numbers["chunks"].reshape(-1, 7)}
    write_statistics(folder, rows)
    return numbers


def test_each_frame_is_a_sample_for_each_prompt_with_its_chunk_and_its_labels(tmp_path):
    numbers = write_labelled(tmp_path / "labelled")
    settings = small_settings(
        tmp_path,
        data={
            "dataset": str(tmp_path / "labelled"),
            "chunks": "chunks",
            "prompts": list(TASKS),
            "labels": {"points": "pixels", "visible": "visible", "positions": "places"},
        },
        loss={"extra": {"objects": 1, "coordinates": 3}},
    )
    made = assemble(settings)
    samples, reader = made.samples, reader_of(made)
    assert len(samples) == 4
    for number in range(4):
        frame, variant = divmod(number, 2)
        sample = samples[number]
        back = reader.to_robot(sample["actions"], numbers["observation.state"][frame])
        assert np.abs(back - numbers["chunks"][frame, variant, :50]).max() < 1e-5
        words = PaligemmaTokenizer(samples.recipe.tokenizer)
        assert TASKS[variant] in words.decode(sample["prompt"]["ids"][sample["prompt"]["mask"]])
        # the middle of the picture is that of the square that it is scaled into
        points = sample["labels"]["points"]
        assert points["base_0_rgb"] == pytest.approx(np.array([[0.5, 0.5]]))
        assert np.isnan(points["left_wrist_0_rgb"]).all() == (frame == 1)  # where it is hidden
    positions = np.stack([samples[number]["labels"]["position"] for number in range(4)])
    assert np.abs(positions.mean(0)).max() < 1e-5
    assert np.square(positions).mean() == pytest.approx(1, abs=1e-4)


def grouped(tmp_path, tasks, prompts):
    """Samples of datasets of several tasks in one."""
    write_labelled(tmp_path / "labelled", tasks=tasks)
    data = {"dataset": str(tmp_path / "labelled"), "chunks": "chunks", "prompts": prompts}
    return assemble(small_settings(tmp_path, data=data)).samples


def test_a_frame_has_the_prompts_of_the_group_with_its_own_task(tmp_path):
    samples = grouped(tmp_path, ["pick red", "push blue"], TASKS_OF_GROUPS)
    words = PaligemmaTokenizer(samples.recipe.tokenizer)
    prompts = [samples[number]["prompt"] for number in range(len(samples))]
    said = [words.decode(prompt["ids"][prompt["mask"]]) for prompt in prompts]
    assert len(said) == 8  # two episodes of two frames, for two prompts each
    for number, text in enumerate(said):
        assert TASKS_OF_GROUPS[2 * (number // 4) + number % 2] in text


def test_a_task_that_no_group_has_names_the_episode(tmp_path):
    samples = grouped(tmp_path, ["pick red", "throw red"], TASKS_OF_GROUPS)
    with pytest.raises(DataError, match=r"episode 1.*data.prompts lacks its task 'throw red'"):
        samples[4]


def numbered(tmp_path, texts, column="stages"):
    """Samples whose subtasks are numbers, one for each prompt of a frame."""
    write_labelled(tmp_path / "labelled")
    data = {
        "dataset": str(tmp_path / "labelled"),
        "chunks": "chunks",
        "prompts": list(TASKS),
        "subtask": column,
        "subtask_texts": texts,
        "subtask_length": 40,
    }
    return assemble(small_settings(tmp_path, data=data)).samples


def test_a_number_of_each_prompt_stands_for_a_subtask(tmp_path):
    samples = numbered(tmp_path, ["reach the cube", "grasp the cube", "hold"])
    words = PaligemmaTokenizer(samples.recipe.tokenizer)
    texts = [samples[number]["subtask"] for number in range(4)]
    said = [words.decode(text["ids"][text["loss_mask"]]) for text in texts]
    assert said == ["reach the cube", "grasp the cube", "grasp the cube", "hold"]
    for number, text in enumerate(texts):
        assert TASKS[number % 2] in words.decode(text["ids"][text["mask"]])


def test_a_number_without_a_subtask_names_the_frame(tmp_path):
    samples = numbered(tmp_path, ["reach the cube", "grasp the cube"])
    with pytest.raises(DataError, match=r"episode 0: frame 1: stages is 2, .* has 2 texts"):
        samples[3]


@pytest.mark.parametrize("column", ["action", "pixels"])
def test_subtasks_are_whole_numbers_one_for_each_prompt(tmp_path, column):
    with pytest.raises(SettingsError, match=r"data.subtask: .* expected whole numbers, one or 2"):
        numbered(tmp_path, ["reach the cube"], column)


def test_groups_that_do_not_fit_the_chunks_are_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"data.chunks: .* expected \[3, 50 or more, 7\]"):
        grouped(tmp_path, ["pick red"], TASKS_OF_GROUPS[:3])


def test_a_coordinate_that_hardly_varies_counts_hardly():
    stats = {"mean": [[0.3, 0.1, 0.02], [0.3, -0.1, 0.02]], "std": [[0.1, 0.1, 0.001]] * 2}
    middle, deviation = standardisation(stats)
    np.testing.assert_allclose(middle, [0.3, 0.0, 0.02], atol=1e-12)
    assert deviation == pytest.approx(np.sqrt((0.01 + 0.02 + 1e-6) / 3))


def test_a_point_is_where_its_pixel_goes_when_a_picture_is_scaled():
    # 640 x 480 becomes 224 x 168, 28 rows below the top of the square
    points = as_shares(np.array([[0.0, 0.0], [640.0, 480.0]], np.float32), (480, 640), 224)
    assert points == pytest.approx(np.array([[0, 28 / 224], [1, 196 / 224]]))


def test_a_subtask_is_read_after_its_prompt_and_trained(tmp_path):
    write_dataset(tmp_path / "dataset", subtasks=True)
    settings = small_settings(tmp_path / "other", data={"dataset": str(tmp_path / "dataset")})
    settings = small_settings(
        tmp_path / "other",
        data={"dataset": str(tmp_path / "dataset"), "subtask": "subtask", "subtask_length": 40},
    )
    samples = assemble(settings).samples
    text = samples[0]["subtask"]
    words = PaligemmaTokenizer(samples.recipe.tokenizer)
    assert text["ids"].shape == (40,)
    assert words.decode(text["ids"][text["loss_mask"]]) == "reach the cube"
    trained = np.flatnonzero(text["loss_mask"])
    assert text["ids"][trained[-1]] == EOS_ID
    assert (text["causal"] == text["loss_mask"]).all()
    assert not text["mask"][trained[-1] + 1 :].any()
    prompt = words.decode(text["ids"][1 : trained[0]])
    assert prompt == f"Task: {TASKS[0]}. Subtask: "


def test_fast_tokens_are_what_serving_decodes():
    words = PaligemmaTokenizer(MODEL_DATA / "paligemma_tokenizer.model")
    fast = FastTokenizer(MODEL_DATA / "fast")
    chunk = np.random.default_rng(0).uniform(-1, 1, (5, 7))
    prompt = np.array([2, *words.ids("Task: touch;\n")])
    text = fast_text(words, fast, prompt, chunk, 200)
    assert (text["ids"][: len(prompt)] == prompt).all()
    assert not text["loss_mask"][: len(prompt)].any()
    answer = text["ids"][text["loss_mask"]]
    assert answer[-1] == EOS_ID
    back = FastActionDecoder(words, fast).decode(answer, 5, 7)
    assert np.abs(back - chunk).max() < 0.2  # FAST rounds


def test_a_text_that_is_too_long_loses_its_end_with_a_warning(assembled, caplog):
    words = PaligemmaTokenizer(assembled.samples.recipe.tokenizer)
    text = subtask_text(words, "touch the cube", "reach", "Task: {task}. Subtask: ", 6)
    assert text["mask"].all()
    assert "is cut to 6" in caplog.text
