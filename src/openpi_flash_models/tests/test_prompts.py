import json

import numpy as np
import pytest
from storage_server import Store, serve

from openpi_flash_models.actions.fast import find_fast_tokenizer
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.text.prompts import action_prompt, planner_prompt, state_bins
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer, find_tokenizer

# the reference keeps the beginning of a long prompt
RECORDED_CHARACTERS = 250


@pytest.fixture(scope="module")
def tokenizer(data):
    return PaligemmaTokenizer(data / "paligemma_tokenizer.model")


def test_action_prompts_get_the_ids_that_openpi_gives_them(tokenizer, data, caplog):
    arrays = np.load(data / "tokenizer_oracle.npz")
    cases = json.loads((data / "tokenizer_oracle.json").read_text())
    for case in cases:
        key = f"pg/{case['i']}"
        state = arrays[f"{key}/state"] if case["has_state"] else None
        text = action_prompt(case["prompt"], state)
        tokens = tokenizer.encode(text, case["max_len"], newline_after=state is None)
        np.testing.assert_array_equal(tokens.ids, arrays[f"{key}/ids"], err_msg=str(case))
        np.testing.assert_array_equal(tokens.mask, arrays[f"{key}/mask"], err_msg=str(case))
    assert len(cases) > 20
    assert "is cut to 48" in caplog.text


def test_planner_prompts_get_the_ids_that_openpi_flash_gives_them(tokenizer, data):
    arrays = np.load(data / "planner.npz")
    cases = json.loads((data / "planner.json").read_text())["prompts"]
    for i, case in enumerate(cases):
        text = planner_prompt(case["prompt"], case["format"])
        assert text[:RECORDED_CHARACTERS] == case["text"]
        tokens = tokenizer.encode(text, 200)
        np.testing.assert_array_equal(tokens.ids, arrays[f"prompt/{i}/tokens"])
        np.testing.assert_array_equal(tokens.mask, arrays[f"prompt/{i}/mask"])
    assert len(cases) > 10


def test_state_bins_end_at_255_and_fall_to_minus_one_below_the_range():
    state = np.array([-1.001, -1.0, -0.5, 0.0, 0.99, 1.0, 7.0])
    assert state_bins(state).tolist() == [-1, 0, 64, 128, 254, 255, 255]


def test_generated_ids_become_text_without_padding_and_end_marks(tokenizer, data):
    for case in json.loads((data / "planner.json").read_text())["detokenize"]:
        assert tokenizer.decode(np.array(case["ids"])) == case["text"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("paligemma_tokenizer.model", "vocab_mask"),
        ("mask_tokenizer.model", "mask_tokenizer/allowed"),
    ],
)
def test_only_printable_ascii_may_be_said(data, model, expected):
    printable = PaligemmaTokenizer(data / model).printable
    np.testing.assert_array_equal(printable, np.load(data / "planner.npz")[expected])


def test_the_checkpoints_own_tokenizer_comes_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    checkpoint = tmp_path / "checkpoint"
    places = [
        tmp_path / "cache/big_vision/paligemma_tokenizer.model",
        checkpoint / "paligemma_tokenizer.model",
        checkpoint / "tokenizer/paligemma_tokenizer.model",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        assert find_tokenizer(checkpoint) == place


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_the_tokenizer_that_the_environment_names_comes_first(tmp_path, monkeypatch):
    (tmp_path / "paligemma_tokenizer.model").touch()
    mine = tmp_path / "mine.model"
    monkeypatch.setenv("OPENPI_TOKENIZER_PATH", str(mine))
    with pytest.raises(CheckpointError, match=r"mine.model \(from OPENPI_TOKENIZER_PATH\)"):
        find_tokenizer(tmp_path)
    mine.touch()
    assert find_tokenizer(tmp_path) == mine


def test_a_tokenizer_that_is_nowhere_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    store = Store({"big_vision/paligemma_tokenizer.model": b"pieces"})
    server, address = serve(store)
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    try:
        found = find_tokenizer(tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert found == tmp_path / "cache/big_vision/paligemma_tokenizer.model"
    assert find_tokenizer(tmp_path).read_bytes() == b"pieces"


def test_a_fast_tokenizer_is_found_in_the_checkpoint_the_cache_or_nowhere(tmp_path, no_network):
    with pytest.raises(CheckpointError, match=r"no FAST tokenizer .* into the checkpoint's fast_"):
        find_fast_tokenizer(tmp_path, "org/fast")
    for place in (tmp_path / "cache/org/fast", tmp_path / "fast_tokenizer"):
        place.mkdir(parents=True)
        (place / "processor_config.json").touch()
        assert find_fast_tokenizer(tmp_path, "org/fast") == place


def test_a_missing_tokenizer_is_an_error_that_lists_where_it_was_looked_for(tmp_path, no_network):
    with pytest.raises(CheckpointError, match="no PaliGemma tokenizer") as caught:
        find_tokenizer(tmp_path)
    assert f"{tmp_path}/cache/big_vision/paligemma_tokenizer.model" in str(caught.value)
    assert f"{tmp_path}/tokenizer/paligemma_tokenizer.model" in str(caught.value)
    assert "downloads failed: cannot reach 127.0.0.1:9" in str(caught.value)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "broken.model").write_bytes(b"not a protobuf")
    with pytest.raises(CheckpointError, match="broken.model is not a SentencePiece model"):
        PaligemmaTokenizer(tmp_path / "broken.model")
