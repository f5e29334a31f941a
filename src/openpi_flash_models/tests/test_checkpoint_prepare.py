"""Checkpoints put together from a hub and a bucket, both on real sockets."""

import io
import json
import tarfile

import pytest
from storage_server import Store, serve

from openpi_flash_models.checkpoints.inspect import inspect
from openpi_flash_models.checkpoints.prepare import prepare_checkpoint, prepare_planner_checkpoint
from openpi_flash_models.downloads import transfer
from openpi_flash_models.errors import CheckpointError, DownloadError

MODEL, ASSETS = "lerobot/pi05_base", "gs://assets/pi05_base/assets"
ARCHIVE = "jax/pi05_subtask.tar"


@pytest.fixture
def store(data, tiny_checkpoint):
    config = json.loads((data / "tiny_pi05_torch/config.json").read_text()) | {"vision_heads": 4}
    stats = (tiny_checkpoint / "assets/trossen/norm_stats.json").read_bytes()
    return Store(
        {
            f"{MODEL}/config.json": json.dumps(config).encode(),
            f"{MODEL}/model.safetensors": (data / "tiny_pi05_torch/model.safetensors").read_bytes(),
            f"{MODEL}/README.md": b"not wanted",
            "assets/pi05_base/assets/trossen/norm_stats.json": stats,
            f"org/planner/{ARCHIVE}": tar_of(tiny_checkpoint, "99/"),
        }
    )


@pytest.fixture(autouse=True)
def cache(store, tmp_path, monkeypatch):
    server, address = serve(store)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "_PAUSES_S", (0.0,))
    yield tmp_path / "cache"
    server.shutdown()
    server.server_close()


def tar_of(checkpoint, prefix):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(checkpoint.rglob("*")):
            if path.is_file():
                archive.add(path, prefix + path.relative_to(checkpoint).as_posix())
    return stream.getvalue()


def prepare(output, **options):
    return prepare_checkpoint(MODEL, ASSETS, output, asset_id="trossen", **options)


def test_weights_and_statistics_become_one_checkpoint(tmp_path):
    output = tmp_path / "out"
    assert prepare(output)
    assert {p.name for p in output.iterdir()} == {
        "config.json",
        "model.safetensors",
        "assets",
        "source_manifest.json",
    }
    assert inspect(output).configs == ("pi05_aloha", "pi05_aloha_pen_uncap")
    manifest = json.loads((output / "source_manifest.json").read_text())
    assert (manifest["model_id"], manifest["openpi_assets_uri"]) == (MODEL, ASSETS)


def test_a_second_time_there_is_nothing_to_do(store, tmp_path):
    prepare(tmp_path / "out")
    store.objects.clear()
    assert not prepare(tmp_path / "out")


def test_what_got_lost_is_put_back_from_the_cache(store, tmp_path):
    prepare(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    store.objects.clear()
    assert prepare(tmp_path / "out")
    assert inspect(tmp_path / "out").shape.kind == "pi05"


def test_force_downloads_again(store, tmp_path):
    prepare(tmp_path / "out")
    store.requests.clear()
    assert prepare(tmp_path / "out", force=True)
    assert f"{MODEL}/model.safetensors" in [name for name, _ in store.requests]


def test_a_directory_that_somebody_else_made_is_left_alone(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "model.safetensors").write_bytes(b"precious")
    for force in (False, True):
        with pytest.raises(CheckpointError, match="holds files that this command did not write"):
            prepare(output, force=force)
    assert (output / "model.safetensors").read_bytes() == b"precious"


def test_what_another_command_made_is_left_alone(store, tmp_path):
    prepare(tmp_path / "out")
    with pytest.raises(CheckpointError, match="holds files that this command did not write"):
        prepare_planner_checkpoint("org/planner", ARCHIVE, tmp_path / "out", force=True)
    assert inspect(tmp_path / "out").layout == "safetensors"


@pytest.mark.parametrize("name", ["pi05_base", "lerobot/pi05_base/model.safetensors", ""])
def test_a_model_that_is_no_repository_is_named_before_anything_is_fetched(name, store, tmp_path):
    with pytest.raises(CheckpointError, match="is no model of the hub: expected ORG/REPO"):
        prepare_checkpoint(name, ASSETS, tmp_path / "out", asset_id="trossen")
    assert not store.requests


def test_missing_statistics_are_named_and_nothing_is_left(tmp_path):
    with pytest.raises(CheckpointError, match=r"the checkpoint has statistics for trossen"):
        prepare_checkpoint(MODEL, ASSETS, tmp_path / "out", asset_id="droid")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_a_part_that_cannot_be_fetched_is_named(store, tmp_path):
    del store.objects["assets/pi05_base/assets/trossen/norm_stats.json"]
    with pytest.raises(DownloadError, match=f"{ASSETS} does not exist"):
        prepare(tmp_path / "out")


@pytest.mark.parametrize("prefix", ["", "99/", "params_of_99/"])
def test_a_planner_is_unpacked_with_or_without_a_directory_around_it(
    prefix, store, tiny_checkpoint, cache, tmp_path
):
    store.objects[f"org/planner/{ARCHIVE}"] = tar_of(tiny_checkpoint, prefix)
    output = tmp_path / "planner"
    assert prepare_planner_checkpoint("org/planner", ARCHIVE, output)
    assert inspect(output).shape.kind == "pi05"
    assert not (cache / "org/planner" / ARCHIVE).exists(), "the archive is not kept"
    assert not prepare_planner_checkpoint("org/planner", ARCHIVE, output)


def test_an_archive_that_was_in_the_cache_before_stays(store, cache, tmp_path):
    file = cache / "org/planner" / ARCHIVE
    file.parent.mkdir(parents=True)
    file.write_bytes(store.objects[f"org/planner/{ARCHIVE}"])
    prepare_planner_checkpoint("org/planner", ARCHIVE, tmp_path / "planner")
    assert file.exists()


def test_an_archive_that_reaches_outside_is_refused(store, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped"))
    store.objects[f"org/planner/{ARCHIVE}"] = stream.getvalue()
    with pytest.raises(CheckpointError, match="cannot be unpacked: .*escaped.*outside"):
        prepare_planner_checkpoint("org/planner", ARCHIVE, tmp_path / "planner")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("content", [b"not a tar", b""])
def test_an_archive_that_is_none_is_named(content, store, tmp_path):
    store.objects[f"org/planner/{ARCHIVE}"] = content
    with pytest.raises(CheckpointError, match=r"pi05_subtask.tar"):
        prepare_planner_checkpoint("org/planner", ARCHIVE, tmp_path / "planner")
    assert not (tmp_path / "planner").exists()
