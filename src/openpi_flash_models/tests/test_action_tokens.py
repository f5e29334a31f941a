"""FAST tokens: openpi's ids and chunks, and an error where openpi answers with zeros."""

import json
import shutil

import numpy as np
import pytest

from openpi_flash_models.actions.fast import FastTokenizer, dct_matrix
from openpi_flash_models.actions.tokens import BinActionDecoder, FastActionDecoder, action_ids
from openpi_flash_models.errors import ActionDecodeError, CheckpointError, ModelOutputError
from openpi_flash_models.text.prompts import fast_prompt
from openpi_flash_models.text.tokenizer import EOS_ID, PaligemmaTokenizer


@pytest.fixture(scope="module")
def words(data):
    return PaligemmaTokenizer(data / "paligemma_tokenizer.model")


@pytest.fixture(scope="module")
def fast(data):
    return FastTokenizer(data / "fast")


@pytest.fixture(scope="module")
def decoder(words, fast):
    return FastActionDecoder(words, fast)


@pytest.fixture(scope="module")
def oracle(data):
    arrays = np.load(data / "fast_oracle.npz")
    cases = json.loads((data / "fast_oracle.json").read_text())
    return [
        case | {k.split("/")[2]: v for k, v in arrays.items() if k.split("/")[1] == str(case["j"])}
        for case in cases
    ]


def says(words, text, fast_ids, end="|"):
    """What a model would generate, padded."""
    ids = words.ids(text) + action_ids(fast_ids, words.vocabulary_size) + words.ids(end)
    return np.array([*ids, EOS_ID, 0, 0, 0])


def test_the_transform_is_an_orthonormal_dct():
    matrix = dct_matrix(10)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(10), atol=1e-12)
    scipy_fft = pytest.importorskip("scipy.fft")
    x = np.random.default_rng(0).standard_normal((10, 3))
    np.testing.assert_allclose(matrix @ x, scipy_fft.dct(x, axis=0, norm="ortho"), atol=1e-12)


def test_prompts_get_the_ids_that_openpi_gives_them(words, oracle):
    for case in oracle:
        tokens = words.encode(fast_prompt(case["prompt"], case["state"]), 250)
        np.testing.assert_array_equal(tokens.ids, case["prefix_tokens"], err_msg=str(case["j"]))


def test_chunks_get_the_tokens_that_openpi_gives_them(words, fast, oracle):
    for case in oracle:
        generated = case["generated"]
        opening = len(words.ids("Action: "))
        ids = action_ids(fast.encode(case["actions"]), words.vocabulary_size)
        np.testing.assert_array_equal(generated[opening : opening + len(ids)], ids)


def test_generated_tokens_become_openpis_chunk_or_an_error_that_says_why_not(decoder, oracle):
    failed = 0
    for case in oracle:
        expected = case["decoded"]
        if expected.any():
            actions = decoder.decode(case["generated"], case["horizon"], case["dim"])
            np.testing.assert_allclose(actions, expected, atol=1e-12)
            continue
        failed += 1  # openpi answers these with zeros, which unnormalise to a plausible motion
        with pytest.raises(ActionDecodeError, match=r"tokens hold \d+ coefficients, expected 32"):
            decoder.decode(case["generated"], case["horizon"], case["dim"])
    assert failed == 4


def test_what_openpi_calls_malformed_is_an_error(decoder, oracle):
    bad = [case for case in oracle if "bad_generated" in case]
    for case in bad:
        with pytest.raises(ActionDecodeError):
            decoder.decode(case["bad_generated"], case["horizon"], case["dim"])


def test_an_error_says_what_the_model_wrote_instead(words, fast, decoder):
    ids = fast.encode(np.zeros((10, 7)))
    for tokens, problem in (
        (says(words, "the robot waves", []), r"wrote no 'Action: ', but 'the robot waves"),
        (says(words, "Action: ", []), r"wrote no action tokens, but 'Action: |'"),
        (says(words, "Action: ", ids[:-1]), r"coefficients, expected 10 steps x 7 actions = 70"),
        (np.zeros(16, np.int32), "wrote no 'Action: ', but ''"),
        (says(words, "Action: ", [511, 512, 600]), "no action tokens"),
    ):
        with pytest.raises(ActionDecodeError, match=problem) as caught:
            decoder.decode(tokens, 10, 7)
        assert isinstance(caught.value, ModelOutputError)


def test_a_chunk_whose_end_mark_is_missing_is_still_read(words, fast, decoder):
    chunk = np.random.default_rng(1).uniform(-0.5, 0.5, (10, 7))
    tokens = says(words, "Action: ", fast.encode(chunk), end="")
    assert np.abs(decoder.decode(tokens, 10, 7) - chunk).max() < 0.1


def test_every_chunk_in_range_survives_the_way_there_and_back(words, fast, decoder):
    rng = np.random.default_rng(2)
    for _ in range(200):
        steps = np.cumsum(rng.uniform(-0.06, 0.06, (10, 8)), axis=0)
        tokens = says(words, "Action: ", fast.encode(steps))
        assert np.abs(decoder.decode(tokens, 10, 8) - steps).max() < 0.15


def test_ids_that_text_would_regroup_are_read_directly(words, fast):
    """Ordinary pieces that spell a third one: openpi's way through text loses such tokens."""
    size = words.vocabulary_size
    pairs = [
        (a, b)
        for a in range(1500, 1640)
        for b in range(1600, 1640)
        if words.ids(words.decode(np.array(action_ids([a, b], size)))) != action_ids([a, b], size)
    ]
    assert pairs, "this tokenizer has no such pair: the test proves nothing"

    class Recorder:
        settings = fast.settings

        def decode(self, ids, horizon, action_dim):
            if ids != list(pairs[0]):
                raise ActionDecodeError("regrouped")
            return np.zeros((horizon, action_dim))

    decoder = FastActionDecoder(words, Recorder())
    assert decoder.decode(says(words, "Action: ", pairs[0]), 10, 7).shape == (10, 7)


def test_bins_become_numbers_in_the_range(words):
    bins = np.arange(20) * 13 % 256
    actions = BinActionDecoder(words).decode(says(words, "Action: ", bins), 5, 4)
    np.testing.assert_allclose(actions.ravel(), bins / 256 * 2 - 1)


def test_bins_that_are_too_few_or_none_are_an_error(words):
    decoder = BinActionDecoder(words)
    with pytest.raises(ActionDecodeError, match="19 action tokens, expected 5 steps x 4"):
        decoder.decode(says(words, "Action: ", range(19)), 5, 4)
    with pytest.raises(ActionDecodeError, match="a token is bin 300, expected 0 to 255"):
        decoder.decode(says(words, "Action: ", [300] * 20), 5, 4)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("processor_config.json", None, r"processor_config.json is missing"),
        ("processor_config.json", "{}", r"is not the settings of a FAST tokenizer"),
        ("processor_config.json", '{"scale": 0, "min_token": 0, "vocab_size": 1}', "scale is 0"),
        ("tokenizer.json", None, r"tokenizer.json is not a tokenizer"),
        ("tokenizer.json", "{", r"tokenizer.json is not a tokenizer"),
    ],
)
def test_a_broken_tokenizer_directory_is_named(file, content, problem, data, tmp_path):
    directory = shutil.copytree(data / "fast", tmp_path / "fast")
    if content is None:
        (directory / file).unlink()
    else:
        (directory / file).write_text(content)
    with pytest.raises(CheckpointError, match=problem):
        FastTokenizer(directory)


def test_the_layout_of_newer_transformers_is_read(data, fast, tmp_path):
    directory = shutil.copytree(data / "fast", tmp_path / "fast")
    (directory / "bpe_tokenizer").mkdir()
    (directory / "tokenizer.json").rename(directory / "bpe_tokenizer" / "tokenizer.json")
    chunk = np.zeros((10, 7))
    assert FastTokenizer(directory).encode(chunk) == fast.encode(chunk)
