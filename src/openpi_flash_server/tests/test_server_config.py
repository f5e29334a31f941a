"""What a configuration may say, and the exact words for what it may not."""

import json

import pytest

from openpi_flash_server.config import Mode
from openpi_flash_server.config_file import ConfigError, load_config, parse_config

NULL_ACTION = {"model_config_name": "null"}
PLANNER = {"checkpoint_dir": "/models/planner"}


def parse(values, environment=None):
    text = values if isinstance(values, str) else json.dumps(values)
    return parse_config(text, environment or {}, source="server.json")


def error_of(values, environment=None):
    with pytest.raises(ConfigError) as caught:
        parse(values, environment)
    return str(caught.value)


# what it may say


def test_the_smallest_configuration_has_the_documented_defaults():
    config = parse({"action": NULL_ACTION})
    assert config.mode is Mode.ACTION_ONLY
    assert config.slots == ["action"]
    assert config.host == "0.0.0.0"
    assert (config.action_transport.websocket_port, config.action_transport.quic_port) == (
        8000,
        5555,
    )
    assert (config.planner_transport.websocket_port, config.planner_transport.quic_port) == (
        8002,
        5556,
    )
    assert not config.action_transport.dedicated_link
    assert config.action_transport.unix_socket_path is None
    assert config.planner_transport.unix_socket_path is None
    assert config.api_keys == ()
    assert config.expose_tracebacks


def test_the_planner_has_the_documented_defaults():
    planner = parse({"planner": PLANNER}).planner
    assert planner.max_generation_tokens == 20
    assert planner.generation_prompt_format == "Task: {task}. Subtask: "
    assert planner.action_prompt_template == "{task}. Subtask: {subtask}"


def test_a_certificate_of_ones_own_comes_with_its_key():
    files = {"tls_certificate": "chain.pem", "tls_key": "key.pem"}
    config = parse({"action": NULL_ACTION, **files})
    assert (config.tls_certificate, config.tls_key) == ("chain.pem", "key.pem")
    for given, missing in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        error = error_of({"action": NULL_ACTION, given: "x.pem"})
        assert f"{missing}: missing, {given} is of no use without it" in error


@pytest.mark.parametrize(
    ("values", "mode", "slots"),
    [
        ({"action": NULL_ACTION}, "action_only", ["action"]),
        ({"planner": PLANNER}, "planner_only", ["planner"]),
        ({"action": NULL_ACTION, "planner": PLANNER}, "combined", ["action", "planner"]),
    ],
)
def test_the_mode_follows_from_the_slots(values, mode, slots):
    config = parse(values)
    assert (config.mode, config.slots) == (mode, slots)


def test_a_transport_can_be_overridden_in_part():
    config = parse({"action": NULL_ACTION, "action_transport": {"quic_port": 0}})
    assert (config.action_transport.websocket_port, config.action_transport.quic_port) == (8000, 0)


def test_a_null_model_takes_an_empty_checkpoint():
    assert parse({"action": {**NULL_ACTION, "checkpoint_dir": ""}}).action.checkpoint_dir == ""


def test_a_known_model_is_accepted():
    action = {"model_config_name": "pi05_sim_arm", "checkpoint_dir": "/models/arm"}
    assert parse({"action": action}).action.model_config_name == "pi05_sim_arm"


def test_tcp_and_udp_may_share_a_number():
    transport = {"websocket_port": 9000, "quic_port": 9000}
    assert parse({"action": NULL_ACTION, "action_transport": transport})


def test_a_port_of_a_slot_that_is_not_set_is_nobodys():
    assert parse({"action": NULL_ACTION, "planner_transport": {"quic_port": 5555}})


def test_ports_chosen_by_the_system_do_not_clash():
    ports = {"websocket_port": 0, "quic_port": 0}
    values = {"action": NULL_ACTION, "planner": PLANNER}
    assert parse({**values, "action_transport": ports, "planner_transport": ports})


def test_the_state_directory_is_ours_under_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert parse({"action": NULL_ACTION}).certificate_dir == tmp_path / "openpi-flash"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/robot")
    default = parse({"action": NULL_ACTION}).certificate_dir
    assert str(default) == "/home/robot/.local/state/openpi-flash"
    chosen = parse({"action": NULL_ACTION, "state_dir": "~/keys"}).certificate_dir
    assert str(chosen) == "/home/robot/keys"


# the environment


def test_the_environment_goes_over_the_file_field_by_field():
    config = parse(
        {"action": {**NULL_ACTION, "default_prompt": "file"}, "host": "10.0.0.1"},
        {
            "OPENPI_ACTION__DEFAULT_PROMPT": "environment",
            "OPENPI_ACTION_TRANSPORT__QUIC_PORT": "6000",
            "OPENPI_API_KEYS": '["one", "two"]',
            "OPENPI_EXPOSE_TRACEBACKS": "false",
        },
    )
    assert config.action.default_prompt == "environment"
    assert config.action.model_config_name == "null"
    assert config.action_transport.quic_port == 6000
    assert config.action_transport.websocket_port == 8000
    assert config.api_keys == ("one", "two")
    assert not config.expose_tracebacks
    assert config.host == "10.0.0.1"


def test_the_environment_can_set_a_whole_slot_and_refine_it():
    config = parse(
        "{}",
        {
            "OPENPI_PLANNER": '{"checkpoint_dir": "/a", "max_generation_tokens": 5}',
            "OPENPI_PLANNER__CHECKPOINT_DIR": "/b",
        },
    )
    assert (config.planner.checkpoint_dir, config.planner.max_generation_tokens) == ("/b", 5)


def test_text_in_the_environment_stays_text_even_if_it_looks_like_something_else():
    environment = {"OPENPI_ACTION__DEFAULT_PROMPT": "123", "OPENPI_HOST": "null"}
    config = parse({"action": NULL_ACTION}, environment)
    assert (config.action.default_prompt, config.host) == ("123", "null")


def test_other_programs_variables_are_left_alone():
    environment = {"OPENPI_DATA_HOME": "/x", "OPENPI_OPEN_LOOP_HORIZON": "5", "OPENPIHOST": "x"}
    assert parse({"action": NULL_ACTION}, environment).host == "0.0.0.0"


# what it may not say: every message, word for word

PROBLEMS = {
    "no slot": (
        "{}",
        "server.json: neither action nor planner is set, configure at least one of them",
    ),
    "not json": (
        '{"action": }',
        "server.json: not JSON, line 1 column 12: expecting value",
    ),
    "no object": ("[1]", "server.json: must hold a JSON object, got a list"),
    "a key twice": (
        '{"action": {"model_config_name": "null", "model_config_name": "x"}}',
        "server.json: 1 problem\n  model_config_name: given twice",
    ),
    "unknown key at the top": (
        {"action": NULL_ACTION, "hosts": "x"},
        "server.json: 1 problem\n  hosts: unknown key, did you mean host?",
    ),
    "unknown key that is like no other": (
        {"action": NULL_ACTION, "zzz": 1},
        "server.json: 1 problem\n  zzz: unknown key, known keys: robot_files, action, planner, "
        "action_transport, planner_transport, host, api_keys, tls_certificate, tls_key, "
        "state_dir, expose_tracebacks",
    ),
    "unknown key in a slot": (
        {"action": {**NULL_ACTION, "defualt_prompt": "x"}},
        "server.json: 1 problem\n  action.defualt_prompt: unknown key, did you mean "
        "default_prompt?",
    ),
    "unknown key in a transport": (
        {"action": NULL_ACTION, "action_transport": {"quicport": 1}},
        "server.json: 1 problem\n  action_transport.quicport: unknown key, did you mean quic_port?",
    ),
    "missing name": (
        {"action": {"checkpoint_dir": "x"}},
        "server.json: 1 problem\n  action.model_config_name: missing",
    ),
    "missing checkpoint": (
        {"action": {"model_config_name": "pi05_sim_arm"}},
        "server.json: 1 problem\n  action.checkpoint_dir: missing",
    ),
    "missing planner checkpoint": (
        {"planner": {}},
        "server.json: 1 problem\n  planner.checkpoint_dir: missing",
    ),
    "empty planner checkpoint": (
        {"planner": {"checkpoint_dir": ""}},
        "server.json: 1 problem\n  planner.checkpoint_dir: must not be empty, got ''",
    ),
    "port too large": (
        {"action": NULL_ACTION, "action_transport": {"quic_port": 70000}},
        "server.json: 1 problem\n  action_transport.quic_port: must be at most 65535, got 70000",
    ),
    "port negative": (
        {"action": NULL_ACTION, "action_transport": {"websocket_port": -1}},
        "server.json: 1 problem\n  action_transport.websocket_port: must be at least 0, got -1",
    ),
    "port as text": (
        {"action": NULL_ACTION, "action_transport": {"websocket_port": "8000"}},
        "server.json: 1 problem\n  action_transport.websocket_port: must be a whole number, "
        "got '8000'",
    ),
    "port as truth": (
        {"action": NULL_ACTION, "action_transport": {"websocket_port": True}},
        "server.json: 1 problem\n  action_transport.websocket_port: must be a whole number, "
        "got true",
    ),
    "clash of websocket ports": (
        {
            "action": NULL_ACTION,
            "planner": PLANNER,
            "planner_transport": {"websocket_port": 8000},
        },
        "server.json: 1 problem\n  planner_transport.websocket_port: 8000 is taken by "
        "action_transport.websocket_port",
    ),
    "clash of quic ports": (
        {"action": NULL_ACTION, "planner": PLANNER, "action_transport": {"quic_port": 5556}},
        "server.json: 1 problem\n  planner_transport.quic_port: 5556 is taken by "
        "action_transport.quic_port",
    ),
    "clash of socket paths": (
        {
            "action": NULL_ACTION,
            "planner": PLANNER,
            "action_transport": {"unix_socket_path": "/s"},
            "planner_transport": {"unix_socket_path": "/s"},
        },
        "server.json: 1 problem\n  planner_transport.unix_socket_path: /s is taken by "
        "action_transport.unix_socket_path",
    ),
    "too few tokens": (
        {"planner": {**PLANNER, "max_generation_tokens": -5}},
        "server.json: 1 problem\n  planner.max_generation_tokens: must be at least 1, got -5",
    ),
    "template without its place": (
        {"planner": {**PLANNER, "generation_prompt_format": "Task"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: 'Task' lacks {task}",
    ),
    "template with one place of two": (
        {"planner": {**PLANNER, "action_prompt_template": "{task}"}},
        "server.json: 1 problem\n  planner.action_prompt_template: '{task}' lacks {subtask}",
    ),
    "template with an unknown place": (
        {"planner": {**PLANNER, "generation_prompt_format": "{task} {foo}"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: '{task} {foo}' has an unknown "
        "place {foo}, it must hold {task}",
    ),
    "template with a nameless place": (
        {"planner": {**PLANNER, "generation_prompt_format": "{task} {}"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: '{task} {}' has an unknown "
        "place {}, it must hold {task}",
    ),
    "template that reaches into its place": (
        {"planner": {**PLANNER, "generation_prompt_format": "{task.upper}"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: '{task.upper}' has an unknown "
        "place {task.upper}, it must hold {task}",
    ),
    "template that formats its place": (
        {"planner": {**PLANNER, "generation_prompt_format": "{task!r}"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: '{task!r}' formats {task}, "
        "write {task} alone",
    ),
    "template with an open brace": (
        {"planner": {**PLANNER, "action_prompt_template": "{task} {subtask} {"}},
        "server.json: 1 problem\n  planner.action_prompt_template: '{task} {subtask} {' is no "
        "template: single '{' encountered in format string, it must hold {task} and {subtask}",
    ),
    "template that is null": (
        {"planner": {**PLANNER, "generation_prompt_format": None}},
        "server.json: 1 problem\n  planner.generation_prompt_format: must be text, got null",
    ),
    "slot of the wrong kind": (
        {"action": "pi05"},
        "server.json: 1 problem\n  action: must be an object, got 'pi05'",
    ),
    "prompt of the wrong kind": (
        {"action": {**NULL_ACTION, "default_prompt": 5}},
        "server.json: 1 problem\n  action.default_prompt: must be text, got 5",
    ),
    "empty host": (
        {"action": NULL_ACTION, "host": ""},
        "server.json: 1 problem\n  host: must not be empty, got ''",
    ),
    "tracebacks of the wrong kind": (
        {"action": NULL_ACTION, "expose_tracebacks": "no"},
        "server.json: 1 problem\n  expose_tracebacks: must be true or false, got 'no'",
    ),
    "a key with a space": (
        {"action": NULL_ACTION, "api_keys": ["fine", "s3c ret"]},
        "server.json: 1 problem\n  api_keys: key 1 must be printable ASCII without spaces, and "
        "not empty",
    ),
    "a key twice in the list": (
        {"action": NULL_ACTION, "api_keys": ["s3cret", "s3cret"]},
        "server.json: 1 problem\n  api_keys: a key is listed twice",
    ),
    "keys as text": (
        {"action": NULL_ACTION, "api_keys": "s3cret"},
        "server.json: 1 problem\n  api_keys: must be a list",
    ),
    "a key of the wrong kind": (
        {"action": NULL_ACTION, "api_keys": [7]},
        "server.json: 1 problem\n  api_keys.0: must be text",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_wrong_configuration_is_told_what_is_wrong_and_where(name):
    values, message = PROBLEMS[name]
    assert error_of(values) == message


def test_all_problems_are_told_at_once():
    values = {
        "action": {"checkpoint_dir": 5},
        "action_transport": {"quic_port": 70000, "tls": 1},
    }
    assert error_of(values) == (
        "server.json: 4 problems\n"
        "  action.model_config_name: missing\n"
        "  action.checkpoint_dir: must be text, got 5\n"
        "  action_transport.quic_port: must be at most 65535, got 70000\n"
        "  action_transport.tls: unknown key, known keys: websocket_port, quic_port, "
        "unix_socket_path, dedicated_link"
    )


def test_a_variable_that_is_wrong_is_named():
    environment = {
        "OPENPI_ACTION_TRANSPORT__QUIC_PORT": "many",
        "OPENPI_ACTION__DEFUALT_PROMPT": "x",
    }
    assert error_of({"action": NULL_ACTION}, environment) == (
        "server.json: 2 problems\n"
        "  action.defualt_prompt: unknown key, did you mean default_prompt? "
        "(from OPENPI_ACTION__DEFUALT_PROMPT)\n"
        "  action_transport.quic_port: must be a whole number, got 'many' "
        "(from OPENPI_ACTION_TRANSPORT__QUIC_PORT)"
    )


def test_an_api_key_is_never_printed():
    config = parse({"action": NULL_ACTION, "api_keys": ["hunter2"]})
    assert "hunter2" not in repr(config)
    wrong = [["hunter2"], {"key": "hunter2"}, "hunter2", ["hunter2", "hunter2"], ["hunter2 "]]
    for keys in wrong[1:]:
        assert "hunter2" not in error_of({"action": NULL_ACTION, "api_keys": keys})
    assert "hunter2" not in error_of({"action": NULL_ACTION}, {"OPENPI_API_KEYS": "hunter2"})


def test_an_unknown_model_is_an_error_with_a_suggestion():
    message = error_of({"action": {"model_config_name": "pi05_simarm", "checkpoint_dir": "x"}})
    assert message.startswith("server.json: 1 problem\n  action.model_config_name: ")
    assert "pi05_simarm" in message
    assert "pi05_sim_arm" in message


def test_an_unknown_robot_is_an_error_with_a_suggestion():
    message = error_of({"planner": {**PLANNER, "robot": "sim_arn"}})
    assert message.startswith("server.json: 1 problem\n  planner.robot: ")
    assert "'sim_arn'" in message
    assert "sim_arm" in message


def test_a_known_robot_is_accepted():
    assert parse({"planner": {**PLANNER, "robot": "sim_arm"}}).planner.robot == "sim_arm"


# the file


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "absent.json", {})
    assert str(caught.value) == f"{tmp_path}/absent.json: no such file"


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, {})
    assert str(caught.value) == f"{tmp_path}: is a directory"


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "c.json").write_bytes(b"{\xff}")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.json", {})
    assert str(caught.value) == f"{tmp_path}/c.json: not UTF-8 text at byte 1"


def test_json_nested_without_end_is_refused():
    assert error_of("[" * 200_000) == (
        "server.json: not JSON for a configuration: nested too deeply"
    )
