"""What is wrong with a checkpoint is said before it is downloaded, and before it is read."""

import json
import logging
import shutil

import pytest
from storage_server import Store, serve

from openpi_flash_models.checkpoints.check import check_planner_checkpoint, check_policy_checkpoint
from openpi_flash_models.checkpoints.digest import identify
from openpi_flash_models.checkpoints.fetching import (
    fetch_planner_checkpoint,
    fetch_policy_checkpoint,
)
from openpi_flash_models.errors import CheckpointError, DownloadError, InferenceConfigError
from openpi_flash_models.load import load_planner, load_policy

STATS = "assets/physical-intelligence/libero/norm_stats.json"


@pytest.fixture
def store(tmp_path, monkeypatch):
    store = Store()
    server, address = serve(store)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    yield store
    server.shutdown()
    server.server_close()


@pytest.fixture
def checkpoint(data, tiny_checkpoint, tmp_path):
    """A LIBERO checkpoint with all that it needs."""
    directory = tmp_path / "my_run" / "29999"
    shutil.copytree(tiny_checkpoint / "params", directory / "params")
    (directory / STATS).parent.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", directory / STATS)
    shutil.copy(data / "paligemma_tokenizer.model", directory)
    return directory


def uploaded(checkpoint, prefix):
    return {
        f"{prefix}/{path.relative_to(checkpoint).as_posix()}": path.read_bytes()
        for path in checkpoint.rglob("*")
        if path.is_file()
    }


def fetched(store):
    return [name for name, _ in store.requests if not name.startswith("api/")]


def errors(findings):
    return [finding.text for finding in findings if finding.severity == "error"]


def test_a_planner_is_fetched_by_its_params_alone(checkpoint, store):
    store.objects = uploaded(checkpoint, "openpi-assets/checkpoints/pi05_base")
    store.objects["big_vision/paligemma_tokenizer.model"] = (
        checkpoint / "paligemma_tokenizer.model"
    ).read_bytes()
    found = fetch_planner_checkpoint("gs://openpi-assets/checkpoints/pi05_base/params")
    planner = load_planner(found, robot="libero", max_generation_tokens=2)
    assert planner.checkpoint.name == "pi05_base"
    assert not any("/assets/" in name for name in fetched(store)), "a planner needs none"


@pytest.mark.parametrize(
    ("files", "location", "problem"),
    [
        (["params/_METADATA", "params/d/1"], "", f"{STATS} is missing, .*no statistics at all"),
        (
            ["params/_METADATA", "assets/droid/norm_stats.json"],
            "",
            "the checkpoint has statistics for droid",
        ),
        (["_METADATA", "d/1"], "", "it is the params directory itself, give gs://b"),
        (["100/params/_METADATA", "2000/params/_METADATA"], "", "such as gs://b/run/2000"),
        (["README.md", "train_state/x"], "", "has neither params/ nor model.safetensors: it has"),
        (["model.ckpt"], "/model.ckpt", "is one file, give the directory that it is in"),
    ],
)
def test_a_layout_that_cannot_be_served_is_refused_before_the_download(
    files, location, problem, store, tmp_path
):
    store.objects = {f"b/run/{name}": b"x" * 100 for name in files}
    url = f"gs://b/run{location}"
    with pytest.raises(CheckpointError, match=problem):
        fetch_policy_checkpoint(url, "pi05_libero")
    assert fetched(store) == []
    assert not (tmp_path / "cache").exists()
    (text,) = errors(check_policy_checkpoint("pi05_libero", url))
    with pytest.raises(CheckpointError) as refused:
        fetch_policy_checkpoint(url, "pi05_libero")
    assert text == str(refused.value), "the check and the start say the same"


@pytest.mark.parametrize(
    ("name", "files"),
    [("weights", ["_METADATA"]), ("run", ["README.md"]), ("params", ["model.bin"])],
)
def test_what_is_no_planner_is_refused_before_the_download(name, files, store):
    store.objects = {f"b/{name}/{file}": b"x" for file in files}
    with pytest.raises(CheckpointError, match="has neither params/ nor model.safetensors"):
        fetch_planner_checkpoint(f"gs://b/{name}")
    assert fetched(store) == []
    assert len(errors(check_planner_checkpoint(f"gs://b/{name}"))) == 1


@pytest.mark.parametrize(
    "files",
    [
        ["params/_METADATA", STATS],
        ["model.safetensors", "policy_preprocessor.json"],
        ["model.safetensors"],  # may hold LeRobot's statistics itself
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
    ],
)
def test_a_layout_that_can_be_served_is_fetched(files, store, tmp_path):
    store.objects = {f"org/repo/{name}": b"x" for name in files}
    assert fetch_policy_checkpoint("hf://org/repo", "pi05_libero") == tmp_path / "cache/org/repo"
    assert len(fetched(store)) >= len(files)


def test_a_path_and_what_is_in_the_cache_are_taken_as_they_are(store, tmp_path):
    (tmp_path / "here").mkdir()
    assert fetch_policy_checkpoint(str(tmp_path / "here"), "pi05_libero") == tmp_path / "here"
    (tmp_path / "cache/b/run").mkdir(parents=True)
    assert fetch_planner_checkpoint("gs://b/run") == tmp_path / "cache/b/run"
    with pytest.raises(DownloadError, match="no such file or directory"):
        fetch_planner_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(InferenceConfigError, match="no config named 'pi05_libreo'"):
        fetch_policy_checkpoint("gs://b/other", "pi05_libreo")


def test_a_whole_checkpoint_has_no_errors_and_loads(checkpoint):
    findings = check_policy_checkpoint("pi05_libero", str(checkpoint))
    assert {finding.severity for finding in findings} == {"note"}
    told = "\n".join(finding.text for finding in findings)
    assert f"{STATS}: state by quantile, actions by quantile" in told
    assert "pi0.5 in JAX" in told
    policy = load_policy("pi05_libero", checkpoint)
    assert policy.spec.config == "pi05_libero"
    assert policy.spec.checkpoint == identify(checkpoint)
    assert policy.spec.checkpoint.name == "my_run/29999"


def break_statistics(checkpoint):
    (checkpoint / STATS).write_text('{"norm_stats": {"state": {}, "actions": {}}}')


def break_tensors(checkpoint):
    for path in (checkpoint / "params" / "d").iterdir():
        path.write_bytes(b"")


BREAKS = {
    "no statistics": (lambda c: (c / STATS).unlink(), "the checkpoint has no statistics"),
    "statistics": (break_statistics, "is not a norm_stats.json"),
    "tokenizer": (
        lambda c: (c / "paligemma_tokenizer.model").write_bytes(b"x"),
        "is not a SentencePiece model",
    ),
    "metadata": (lambda c: (c / "params/_METADATA").write_text("{"), "is not Orbax metadata"),
    "config.json": (lambda c: (c / "config.json").write_text("[]"), "is not a JSON object"),
    "kind": (
        lambda c: (c / "config.json").write_text('{"type": "pi0"}'),
        "config.json says pi0, the tensors beside it are those of pi0.5",
    ),
    "width": (
        lambda c: (c / "config.json").write_text('{"action_dim": 24}'),
        "says 24 action dimensions, the tensors beside it have 32",
    ),
    "gone": (shutil.rmtree, "no such checkpoint directory"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_check_says_what_loading_would_refuse(what, checkpoint):
    harm, problem = BREAKS[what]
    harm(checkpoint)
    found = errors(check_policy_checkpoint("pi05_libero", str(checkpoint)))
    with pytest.raises(CheckpointError, match=problem) as refused:
        load_policy("pi05_libero", checkpoint)
    assert str(refused.value) in found


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"config_name": "pi05_droid"}, "has statistics for physical-intelligence/libero"),
        ({"config_name": "pi0_libero"}, "is a pi0.5 model, not pi0"),
        ({"config_name": "nobody"}, "no config named 'nobody'"),
        ({"framework": "caffe"}, "no framework named 'caffe'"),
        ({"normalization": "maximum"}, "normalization is 'maximum', expected one of auto"),
        ({"malformed_tokens": "guess"}, "malformed_tokens is 'guess', expected one of error"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_by_both(settings, problem, checkpoint):
    settings = {"config_name": "pi05_libero"} | settings
    name = settings.pop("config_name")
    found = errors(check_policy_checkpoint(name, str(checkpoint), **settings))
    with pytest.raises((CheckpointError, InferenceConfigError), match=problem) as refused:
        load_policy(name, checkpoint, **settings)
    assert str(refused.value) in found


def test_several_things_are_said_at_once(checkpoint):
    BREAKS["statistics"][0](checkpoint)
    BREAKS["tokenizer"][0](checkpoint)
    BREAKS["width"][0](checkpoint)
    assert len(errors(check_policy_checkpoint("pi05_libero", str(checkpoint)))) == 3


def test_a_horizon_that_config_json_does_not_know_is_warned_of(checkpoint, caplog):
    (checkpoint / "config.json").write_text(json.dumps({"type": "pi05", "chunk_size": 50}))
    text = "says chunks of 50 steps, the config pi05_libero asks for 10"
    (warning,) = [
        finding.text
        for finding in check_policy_checkpoint("pi05_libero", str(checkpoint))
        if finding.severity == "warning"
    ]
    assert text in warning
    with caplog.at_level(logging.WARNING):
        load_policy("pi05_libero", checkpoint)
    assert any(text in message for message in caplog.messages)
    (checkpoint / "config.json").write_text(json.dumps({"action_horizon": 10, "model": "pi05"}))
    findings = check_policy_checkpoint("pi05_libero", str(checkpoint))
    assert {finding.severity for finding in findings} == {"note"}


def test_a_planner_is_checked_without_statistics(checkpoint):
    shutil.rmtree(checkpoint / "assets")
    assert errors(check_planner_checkpoint(str(checkpoint))) == []
    assert errors(check_planner_checkpoint(str(checkpoint / "params"))) == []
    break_tensors(checkpoint)
    (problem,) = errors(check_planner_checkpoint(str(checkpoint / "params")))
    with pytest.raises(CheckpointError) as refused:
        load_planner(checkpoint / "params")
    assert problem == str(refused.value)


def test_a_missing_tokenizer_is_a_warning_since_serve_fetches_it(checkpoint, store):
    (checkpoint / "paligemma_tokenizer.model").unlink()
    findings = check_policy_checkpoint("pi05_libero", str(checkpoint))
    (warning,) = [finding.text for finding in findings if finding.severity == "warning"]
    assert warning.startswith("no PaliGemma tokenizer")
    assert fetched(store) == []


def test_a_digest_is_that_of_the_content_wherever_it_lies(checkpoint, tmp_path):
    digest = identify(checkpoint).digest
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 64
    copy = tmp_path / "a copy#2"
    shutil.copytree(checkpoint, copy)
    assert identify(copy).digest == digest
    assert identify(copy).name == "a copy#2"
    (copy / "README.md").write_text("says nothing about the model")
    shutil.copytree(tmp_path / "my_run", copy / "train_state")
    assert identify(copy).digest == digest


def test_a_digest_changes_with_all_that_decides_the_answers(checkpoint):
    digest = identify(checkpoint).digest
    seen = {digest}
    for path in [*sorted((checkpoint / "params").rglob("*")), checkpoint / STATS]:
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content + b" ")
            seen.add(identify(checkpoint).digest)
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            seen.add(identify(checkpoint).digest)
            path.write_bytes(content)
    files = sum(path.is_file() for path in (checkpoint / "params").rglob("*")) + 1
    assert len(seen) == 1 + 2 * files
    assert identify(checkpoint).digest == digest


def test_two_files_of_one_size_have_two_digests_however_large(tmp_path):
    for name, byte in (("one", 0), ("two", 255)):
        (tmp_path / name).mkdir()
        content = bytearray(3 * 2**20)
        content[2**20 : 2 * 2**20] = bytes([byte]) * 2**20
        (tmp_path / name / "model.safetensors").write_bytes(content)
    assert identify(tmp_path / "one").digest != identify(tmp_path / "two").digest
