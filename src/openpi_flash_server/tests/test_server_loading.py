"""From settings to what the models are loaded with."""

import pytest

import openpi_flash_models.load
from openpi_flash_models.actions.rtc import RtcOptions
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.serving.model_loading import load_planner, load_policy


@pytest.fixture
def loaded(monkeypatch):
    """Keyword arguments of every model that was loaded."""
    calls = []
    for name in ("load_policy", "load_planner"):
        monkeypatch.setattr(
            openpi_flash_models.load, name, lambda *_, **options: calls.append(options)
        )
    return calls


def action(tmp_path, **options):
    return ActionSettings(model_config_name="pi05_sim_arm", checkpoint_dir=str(tmp_path), **options)


def test_without_settings_the_device_chooses(loaded, tmp_path):
    load_policy(action(tmp_path))
    load_planner(PlannerSettings(checkpoint_dir=str(tmp_path)), "libero")
    assert loaded == [
        {
            "default_prompt": None,
            "framework": "auto",
            "dtype": None,
            "graph": None,
            "rtc": RtcOptions(),
            "max_batch": 1,
            "normalization": "auto",
            "malformed_tokens": "error",
        },
        {
            "max_generation_tokens": 20,
            "generation_prompt_format": "Task: {task}. Subtask: ",
            "robot": "libero",
            "dtype": None,
            "missing_cameras": "masked",
            "block_tokens": 4,
        },
    ]


def test_what_is_set_is_what_is_loaded(loaded, tmp_path):
    load_policy(
        action(
            tmp_path,
            framework="jax",
            dtype="bfloat16",
            rtc={"method": "vjp", "schedule": "linear", "max_guidance": 3},
            graph={"static_cache": False},
        )
    )
    load_policy(action(tmp_path, rtc={"method": "off"}, graph={"token_buckets": [8]}))
    load_planner(
        PlannerSettings(checkpoint_dir=str(tmp_path), dtype="float32", missing_cameras="attended"),
        None,
    )
    first, second, planner = loaded
    assert (first["framework"], first["dtype"]) == ("jax", "bfloat16")
    assert first["rtc"] == RtcOptions("vjp", "linear", 3.0)
    assert not first["graph"].graph.static_cache
    assert first["graph"].packing.token_buckets == ALL_ON.packing.token_buckets[:1], (
        "those of a CPU"
    )
    assert second["rtc"] is None
    assert second["graph"].packing.token_buckets == (8,)
    assert second["graph"].graph.static_cache
    assert (planner["dtype"], planner["missing_cameras"]) == ("float32", "attended")
