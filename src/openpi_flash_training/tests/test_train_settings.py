"""Settings: files, options, names, and what is refused."""

import json

import pytest

from openpi_flash_training.train.named import NAMED, named_settings
from openpi_flash_training.train.problem import SettingsError
from openpi_flash_training.train.settings import TrainSettings, check_complete
from openpi_flash_training.train.settings_file import (
    as_tree,
    differences,
    parse_settings,
    read_settings,
    with_options,
)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"optimizer": {"peak_lr": 1}},
            "optimizer.peak_lr: there is no such setting, did you mean optimizer.peak_rate?",
        ),
        ({"batch_size": 3}, "batch_size: there is no such setting, did you mean run.batch_size?"),
        (
            {"loss": {"augment": {"crap": 1}}},
            "loss.augment.crap: there is no such setting, did you mean loss.augment.crop?",
        ),
        ({"run": {"steps": 0}}, "run.steps: is 0, expected at least 1"),
        ({"run": {"steps": 1.5}}, "run.steps: expected a whole number, got 1.5"),
        ({"run": {"steps": True}}, "run.steps: expected a whole number, got true"),
        ({"run": 3}, "run: expected an object, got 3"),
        ({"model": {"dtype": "f16"}}, "model.dtype: is 'f16', expected one of auto, float32"),
        (
            {"model": {"lora": {"language": {"rank": 4, "alpha": 8}}}},
            "model.lora.language: its scale is 2 (alpha 8, rank 4)",
        ),
        ({"data": {"columns": {"a": 1}}}, "data.columns: expected an object of texts"),
        ({"run": {"batch_size": 6, "accumulation": 4}}, "run.accumulation: is 4, which does not"),
        ({"run": {"seed": -1}}, "run.seed: is -1"),
        ({"base": "pi05_positronic_low"}, "did you mean pi05_positronic_lowmem?"),
        ([], "expected an object with sections"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name_and_the_nearest_one(tree, message):
    with pytest.raises(SettingsError) as caught:
        parse_settings(tree, "f.json")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_config_survives_being_written_and_read(name, tmp_path):
    file = tmp_path / "training.json"
    file.write_text(json.dumps(as_tree(NAMED[name])))
    assert read_settings(file) == NAMED[name]


def test_positronic_low_memory_is_adapters_without_a_running_mean():
    settings = named_settings("pi05_positronic_lowmem")
    lora = settings.model.lora
    assert (lora.language.rank, lora.language.alpha) == (16, 16)
    assert (lora.expert.rank, lora.expert.alpha) == (32, 32)
    assert settings.optimizer.ema_decay is None
    assert settings.model.weights == "gs://openpi-assets/checkpoints/pi05_base"
    assert (settings.run.steps, settings.run.batch_size, settings.run.seed) == (30_000, 32, 42)
    with pytest.raises(SettingsError, match="model.config: is missing"):
        check_complete(settings)


def test_one_expert_alone_may_have_adapters():
    tree = {"model": {"lora": {"language": None, "expert": {"rank": 4, "alpha": 4}}}}
    lora = parse_settings(tree, "f").model.lora
    assert lora.language is None
    assert (lora.expert.rank, lora.expert.scale) == (4, 1)


def test_a_file_starts_from_its_base_and_options_come_last():
    tree = {"base": "pi05_libero", "run": {"steps": 7}, "optimizer": {"peak_rate": 1}}
    settings = with_options(parse_settings(tree, "f"), ["run.output=runs/a", "loss.augment=null"])
    assert settings.run.batch_size == 256  # the base's
    assert settings.run.steps == 7
    assert settings.optimizer.peak_rate == 1.0
    assert settings.run.output == "runs/a"
    assert settings.loss.augment is None


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("run.steps", "expected section.field=value"),
        ("steps=3", "expected section.field=value"),
        ("run.step=3", "did you mean run.steps?"),
        ("run.steps=many", 'expected a whole number, got "many"'),
    ],
)
def test_a_wrong_option_is_refused(option, message):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        with_options(TrainSettings(), [option])


def test_differences_name_the_fields():
    other = with_options(TrainSettings(), ["run.seed=1", "loss.max_delay=4"])
    assert differences(TrainSettings(), other) == {"run.seed": (42, 1), "loss.max_delay": (0, 4)}


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_file_is_named(content, tmp_path):
    file = tmp_path / "run.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"run\.json"):
        read_settings(file)
    with pytest.raises(SettingsError, match=r"cannot read .*none\.json"):
        read_settings(tmp_path / "none.json")
