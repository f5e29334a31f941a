"""Configurations that tests begin with, and how they read one."""

import json

import pytest

from openpi_flash_server.config.file import parse_config
from openpi_flash_server.config.problems import ConfigError

NULL_ACTION = {"model_config_name": "null"}
ARM_ACTION = {"model_config_name": "pi05_sim_arm", "checkpoint_dir": "/models/arm"}
FAST_ACTION = {"model_config_name": "pi0_fast_droid", "checkpoint_dir": "/models/fast"}
PLANNER = {"checkpoint_dir": "/models/planner"}


def parse(values, environment=None):
    """What a file that holds `values`, or this text, comes to."""
    text = values if isinstance(values, str) else json.dumps(values)
    return parse_config(text, environment or {}, source="server.json")


def error_of(values, environment=None):
    """What is said of a file that cannot be used."""
    with pytest.raises(ConfigError) as caught:
        parse(values, environment)
    return str(caught.value)
