"""json_schema.py: what the schema says of a file is what the parser says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from schema_check import problems
from server_configs import ARM_ACTION, FAST_ACTION, NULL_ACTION, PLANNER, error_of, parse
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_server.config.fields import all_fields
from openpi_flash_server.config.json_schema import json_schema

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = sorted(CONFIG.glob("server.*.json"))
MODES = {
    "server.action.json": "action_only",
    "server.planner.json": "planner_only",
    "server.combined.json": "combined",
}


def test_the_schema_in_config_is_the_printed_one():
    printed = CliRunner().invoke(app, ["config", "schema"])
    assert printed.exit_code == 0
    assert (CONFIG / "server_schema.json").read_text() == printed.output, (
        "run: openpi-flash config schema > config/server_schema.json"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_names_the_schema_and_fits_it(path):
    values = json.loads(path.read_text())
    assert (path.parent / values["$schema"]).is_file()
    assert problems(json_schema(), values) == []
    assert parse(values).mode == MODES.get(path.name, parse(values).mode)


def test_there_is_an_example_of_each_mode():
    assert MODES.keys() <= {path.name for path in EXAMPLES}


def field_in(schema, path):
    below = schema
    for name in path:
        options = [below, *below.get("anyOf", [])]
        refs = [option["$ref"] for option in options if "$ref" in option]
        below = schema["$defs"][refs[0].removeprefix("#/$defs/")] if refs else below
        below = below["properties"][name]
    return below


def test_every_field_is_in_the_schema_with_its_description_and_default():
    schema = json_schema()
    for path, field in all_fields():
        told = field_in(schema, path)
        assert told["description"] == field.description, path
        if field.is_required():
            continue
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert told["default"] == default, path


def test_limits_are_told():
    schema = json_schema()
    port = field_in(schema, ("action_transport", "quic_port"))
    assert (port["minimum"], port["maximum"], port["type"]) == (0, 65535, "integer")
    method = field_in(schema, ("action", "rtc", "method"))
    assert method["enum"] == ["identity", "vjp", "prefix", "off"]
    assert "pi05_droid" in field_in(schema, ("action", "model_config_name"))["anyOf"][0]["enum"]


@pytest.mark.parametrize(
    "values",
    [
        {"action": NULL_ACTION},
        {"action": ARM_ACTION, "planner": PLANNER, "api_keys": ["k"], "log_level": "debug"},
        {"action": {**FAST_ACTION, "malformed_tokens": "hold"}, "tls_key": None},
        {"$schema": "x", "planner": {**PLANNER, "robot": "droid"}, "action": None},
        {"action": {**ARM_ACTION, "graph": {"token_buckets": [8, 16]}, "rtc": {"max_guidance": 3}}},
    ],
)
def test_what_the_server_accepts_fits_the_schema(values):
    parse(values)
    assert problems(json_schema(), values) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"action": None},
        {"action": {}},
        {"action": {**NULL_ACTION, "defualt_prompt": "x"}},
        {"action": NULL_ACTION, "action_transport": {"quic_port": 70000}},
        {"action": NULL_ACTION, "action_transport": {"quic_port": "5555"}},
        {"action": {**ARM_ACTION, "framework": "tensorflow"}},
        {"action": {**ARM_ACTION, "rtc": {"max_guidance": 0}}},
        {"action": {**ARM_ACTION, "graph": {"token_buckets": [0]}}},
        {"planner": {**PLANNER, "generation_prompt_format": "no place"}},
        {"planner": {**PLANNER, "action_prompt_template": "{task} alone"}},
        {"planner": {**PLANNER, "max_generation_tokens": 0}},
        {"action": NULL_ACTION, "api_keys": "one"},
        {"action": NULL_ACTION, "host": ""},
    ],
)
def test_what_the_schema_refuses_the_server_refuses(values):
    assert problems(json_schema(), values) != []
    error_of(values)


def test_the_key_for_editors_may_stand_at_the_top_only():
    parse({"$schema": "server_schema.json", "action": NULL_ACTION})
    assert "action.$schema: unknown key" in error_of({"action": {"$schema": "x", **NULL_ACTION}})


def test_config_check_is_check_config(tmp_path):
    path = tmp_path / "c.json"
    for values in ({"action": NULL_ACTION}, {"action": {**NULL_ACTION, "prompt": "x"}}):
        path.write_text(json.dumps(values))
        runs = [
            CliRunner().invoke(app, [*command, str(path)])
            for command in (["config", "check"], ["check-config"])
        ]
        assert runs[0].exit_code == runs[1].exit_code
        assert (runs[0].stdout, runs[0].stderr) == (runs[1].stdout, runs[1].stderr)


def test_the_schema_is_made_without_a_model_framework():
    program = (
        "import sys; from openpi_flash_server.config.json_schema import json_schema; json_schema();"
        "sys.exit(bool({'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0
