"""The exact words for what a configuration may not say."""

import json

import pytest
from server_configs import ARM_ACTION, FAST_ACTION, NULL_ACTION, PLANNER, error_of

from openpi_flash_server.config.fields import all_fields
from openpi_flash_server.config.file import misspelt_variables, parse_config
from openpi_flash_server.config.problems import ConfigError

PROBLEMS = {
    "no server id of a load balancer": (
        {"action": NULL_ACTION, "action_transport": {"quic_server_id": "0x1A2B3C4D5E6F7081"}},
        "server.json: 1 problem\n  action_transport.quic_server_id: must match "
        "^0x[0-9a-f]{16}$, got '0x1A2B3C4D5E6F7081'",
    ),
    "no python name": (
        {"action": {"model_config_name": "python:my_pkg.policies"}},
        "server.json: 1 problem\n  action.model_config_name: must be python:MODULE:NAME, such as "
        "python:my_pkg.policies:make, got 'python:my_pkg.policies'",
    ),
    "setting of our models": (
        {"action": {"model_config_name": "python:a:b", "dtype": "float32", "rtc": {}}},
        "server.json: 1 problem\n  action.dtype: is for our own models, remove it: python:a:b is "
        "none",
    ),
    "lerobot without a checkpoint": (
        {"action": {"model_config_name": "lerobot"}},
        "server.json: 1 problem\n  action.checkpoint_dir: missing, set it to the directory or the "
        "URL of the checkpoint",
    ),
    "replicas in the server's own process": (
        {"action": {**NULL_ACTION, "engine": "local", "replicas": 4}},
        "server.json: 1 problem\n  action.engine: a local policy is one, must be 'auto' or 'ray' "
        "for 4 replicas, got 'local'",
    ),
    "a cluster for one local policy": (
        {"action": {**NULL_ACTION, "ray": {"address": "10.0.0.7:6379"}}},
        "server.json: 1 problem\n  action.ray.address: is of no use without Ray, remove it or set "
        "engine to 'ray', got '10.0.0.7:6379'",
    ),
    "a shadow beside replicas": (
        {"action": {**NULL_ACTION, "replicas": 2}, "shadow": {}},
        "server.json: 1 problem\n  shadow: does not run beside replicas, remove it or "
        "action.replicas and engine",
    ),
    "no slot": (
        "{}",
        "server.json: neither action nor planner is set, configure at least one of them",
    ),
    "not json": (
        '{"action": }',
        "server.json: not JSON, line 1 column 12: expecting value",
    ),
    "no object": ("[1]", "server.json: must hold a JSON object, got [1]"),
    "a key twice": (
        '{"action": {"model_config_name": "null", "model_config_name": "x"}}',
        "server.json: 1 problem\n  action.model_config_name: given twice, keep one, got "
        "'null' and 'x'",
    ),
    "unknown key at the top": (
        {"action": NULL_ACTION, "hosts": "x"},
        "server.json: 1 problem\n  hosts: unknown key, did you mean host?",
    ),
    "unknown key that is like no other": (
        {"action": NULL_ACTION, "zzz": 1},
        "server.json: 1 problem\n  zzz: unknown key, known keys: robot_files, action, planner, "
        "shadow, action_transport, planner_transport, host, positronic, recording, limits, admin, "
        "log_level, log_format, tracing, "
        "api_keys, api_key_file, require_api_keys, tls_certificate, tls_key, state_dir, "
        "expose_tracebacks",
    ),
    "sessions without a codec": (
        {"action": NULL_ACTION, "positronic": {"flip_grip": True}},
        "server.json: 1 problem\n  positronic.codec: missing, flip_grip is of no use without it",
    ),
    "sessions without a policy": (
        {"planner": PLANNER, "positronic": {"codec": "ee"}},
        "server.json: 1 problem\n  positronic.codec: needs an action slot, set action or remove it",
    ),
    "checkpoints for a policy without any": (
        {"action": NULL_ACTION, "positronic": {"codec": "ee", "checkpoints_dir": "/exp"}},
        "server.json: 1 problem\n  positronic.checkpoints_dir: is for a policy with a checkpoint, "
        "remove it: null has none",
    ),
    "a shadow without a policy": (
        {"planner": PLANNER, "shadow": {"checkpoint_dir": "/exp/2"}},
        "server.json: 1 problem\n  shadow: needs an action slot, set action or remove it",
    ),
    "a shadow that the action slot's settings do not fit": (
        {
            "action": {**ARM_ACTION, "framework": "pytorch"},
            "shadow": {"model_config_name": "pi0_fast_droid", "checkpoint_dir": "/exp/2"},
        },
        "server.json: 1 problem\n  shadow: does not fit action.framework: pi0-FAST runs in JAX "
        "only, must be 'auto' or 'jax', got 'pytorch'",
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
        "server.json: 1 problem\n  action.model_config_name: missing, set it to the inference "
        'config, such as pi05_sim_arm; "python:MODULE:NAME" for a policy of your own, "lerobot" '
        'for one of LeRobot (docs/own-policy.md), "null" for a fixed chunk without a model',
    ),
    "missing checkpoint": (
        {"action": {"model_config_name": "pi05_sim_arm"}},
        "server.json: 1 problem\n  action.checkpoint_dir: missing, set it to the directory or the "
        "URL of the checkpoint",
    ),
    "missing planner checkpoint": (
        {"planner": {}},
        "server.json: 1 problem\n  planner.checkpoint_dir: missing, set it to the checkpoint: a "
        "directory or a URL",
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
    "framework of another name": (
        {"action": {**NULL_ACTION, "framework": "torch"}},
        "server.json: 1 problem\n  action.framework: must be 'auto', 'jax' or 'pytorch', "
        "got 'torch'",
    ),
    "data type of another name": (
        {"action": {**NULL_ACTION, "dtype": "float16"}},
        "server.json: 1 problem\n  action.dtype: must be 'auto', 'bfloat16', 'float32', "
        "'float8' or 'int8', got 'float16'",
    ),
    "method of real-time chunking of another name": (
        {"action": {**NULL_ACTION, "rtc": {"method": "guidance"}}},
        "server.json: 1 problem\n  action.rtc.method: must be 'identity', 'vjp', 'prefix' or "
        "'off', got 'guidance'",
    ),
    "guidance without strength": (
        {"action": {**NULL_ACTION, "rtc": {"max_guidance": 0}}},
        "server.json: 1 problem\n  action.rtc.max_guidance: must be more than 0, got 0",
    ),
    "guidance without end": (
        '{"action": {"model_config_name": "null", "rtc": {"max_guidance": Infinity}}}',
        "server.json: 1 problem\n  action.rtc.max_guidance: must be a finite number, got Infinity",
    ),
    "guidance in words": (
        {"action": {**NULL_ACTION, "rtc": {"max_guidance": "5"}}},
        "server.json: 1 problem\n  action.rtc.max_guidance: must be a number, got '5'",
    ),
    "unknown switch": (
        {"action": {**NULL_ACTION, "graph": {"drop_paddings": False}}},
        "server.json: 1 problem\n  action.graph.drop_paddings: unknown key, did you mean "
        "drop_padding?",
    ),
    "switch as a number": (
        {"action": {**NULL_ACTION, "graph": {"static_cache": 0}}},
        "server.json: 1 problem\n  action.graph.static_cache: must be true or false, got 0",
    ),
    "prompt lengths that fall": (
        {"action": {**NULL_ACTION, "graph": {"token_buckets": [96, 32]}}},
        "server.json: 1 problem\n  action.graph.token_buckets: must rise from one to the next, "
        "got [96, 32]",
    ),
    "prompt length of none": (
        {"action": {**NULL_ACTION, "graph": {"token_buckets": [0]}}},
        "server.json: 1 problem\n  action.graph.token_buckets.0: must be at least 1, got 0",
    ),
    "real-time chunking of pi0-FAST": (
        {"action": {**FAST_ACTION, "rtc": {"method": "vjp"}}},
        "server.json: 1 problem\n  action.rtc.method: pi0-FAST cannot continue a previous "
        "chunk, must be 'off', got 'vjp'",
    ),
    "pi0-FAST in PyTorch": (
        {"action": {**FAST_ACTION, "framework": "pytorch"}},
        "server.json: 1 problem\n  action.framework: pi0-FAST runs in JAX only, must be 'auto' or "
        "'jax', got 'pytorch'",
    ),
    "switches of JAX in PyTorch": (
        {"action": {**ARM_ACTION, "framework": "pytorch", "graph": {"static_cache": False}}},
        "server.json: 1 problem\n  action.graph: its switches are for JAX only, remove them or "
        "set framework to 'jax', got framework 'pytorch'",
    ),
    "weights of eight bits in PyTorch": (
        {"action": {**ARM_ACTION, "framework": "pytorch", "dtype": "float8"}},
        "server.json: 1 problem\n  action.dtype: float8 is for JAX only, set framework to 'jax' or "
        "dtype to 'bfloat16', got framework 'pytorch'",
    ),
    "weights of eight bits without fused projections": (
        {"action": {**ARM_ACTION, "dtype": "int8", "graph": {"fuse_projections": False}}},
        "server.json: 1 problem\n  action.dtype: int8 needs graph.fuse_projections, which is "
        "switched off",
    ),
    "cameras of another kind": (
        {"planner": {**PLANNER, "missing_cameras": "gray"}},
        "server.json: 1 problem\n  planner.missing_cameras: must be 'masked' or 'attended', "
        "got 'gray'",
    ),
    "socket path that no system takes": (
        {"action": NULL_ACTION, "action_transport": {"unix_socket_path": "/" + "s" * 107}},
        "server.json: 1 problem\n  action_transport.unix_socket_path: must be at most 107 "
        f"characters long, got '/{'s' * 58}... (110 characters)",
    ),
    "host that is a list": (
        {"action": NULL_ACTION, "host": ["10.0.0.1", "10.0.0.2"]},
        """server.json: 1 problem\n  host: must be text, got ["10.0.0.1", "10.0.0.2"]""",
    ),
    "template without its place": (
        {"planner": {**PLANNER, "generation_prompt_format": "Task"}},
        "server.json: 1 problem\n  planner.generation_prompt_format: 'Task' lacks {task}",
    ),
    "template with one place of two": (
        {"planner": {**PLANNER, "action_prompt_template": "do {task}"}},
        "server.json: 1 problem\n  planner.action_prompt_template: 'do {task}' lacks {subtask}",
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
        "server.json: 1 problem\n  api_keys: must be a list in brackets",
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
        "  action.model_config_name: missing, set it to the inference config, such as "
        'pi05_sim_arm; "python:MODULE:NAME" for a policy of your own, "lerobot" for one of '
        'LeRobot (docs/own-policy.md), "null" for a fixed chunk without a model\n'
        "  action.checkpoint_dir: must be text, got 5\n"
        "  action_transport.quic_port: must be at most 65535, got 70000\n"
        "  action_transport.tls: unknown key, known keys: websocket_port, quic_port, "
        "unix_socket_path, dedicated_link, quic_server_id, relay"
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


def test_a_robot_file_at_fault_is_not_blamed_on_the_names_that_it_would_define(tmp_path):
    (tmp_path / "arm.yaml").write_text("robots: []\nconfigz: []\n")
    values = {
        "robot_files": [str(tmp_path / "arm.yaml")],
        "action": {"model_config_name": "pi05_my_arm", "checkpoint_dir": "/models/arm"},
        "planner": {**PLANNER, "robot": "my_arm"},
    }
    message = error_of(values)
    assert message.startswith("server.json: 1 problem\n  robot_files: ")
    assert "configz" in message


def test_a_variable_that_is_nearly_a_setting_is_noticed_and_those_of_others_are_not():
    environment = {
        "OPENPI_HOSTT": "0.0.0.0",
        "OPENPI_ACTON__MODEL_CONFIG_NAME": "null",
        **dict.fromkeys(
            (
                "OPENPI_HOST",
                "OPENPI_ACTION__DEFUALT_PROMPT",
                "OPENPI_DATA_HOME",
                "OPENPI_TOKENIZER_PATH",
                "OPENPI_OPEN_LOOP_HORIZON",
                "OPENPI_PYTORCH_COMPILE_MODE",
                "OPENPI_FLASH_COMPILE_CACHE",
                "OPENPI_FLASH_API_KEY",
                "HOST",
            ),
            "x",
        ),
    }
    assert dict(misspelt_variables(environment)) == {
        "OPENPI_HOSTT": "OPENPI_HOST",
        "OPENPI_ACTON__MODEL_CONFIG_NAME": "OPENPI_ACTION__MODEL_CONFIG_NAME",
    }


def test_an_api_key_is_never_printed():
    values = {"action": NULL_ACTION, "api_keys": ["hunter2"]}
    assert "hunter2" not in repr(parse_config(json.dumps(values), {}, source="server.json"))
    wrong = [["hunter2"], {"key": "hunter2"}, "hunter2", ["hunter2", "hunter2"], ["hunter2 "]]
    for keys in wrong[1:]:
        assert "hunter2" not in error_of({"action": NULL_ACTION, "api_keys": keys})
        assert "hunter2" not in error_of({"action": {**NULL_ACTION, "api_keys": keys}})
        assert "hunter2" not in error_of({"action": NULL_ACTION, "host": {"api_keys": keys}})
        assert "hunter2" not in error_of({"action": NULL_ACTION, "host": [{"api_key": keys}]})
        assert "hunter2" not in error_of(json.dumps([{"api_keys": keys}]))
    assert "hunter2" not in error_of('{"api_keys": ["hunter2"], "api_keys": ["hunter3"]}')
    assert "hunter2" not in error_of({"action": NULL_ACTION}, {"OPENPI_API_KEYS": "hunter2"})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_keys_that_are_required_are_missed_where_others_can_connect(host):
    required = {"action": NULL_ACTION, "require_api_keys": True, "host": host}
    misspelt = {"OPENPI_API_KYES": '["s3cret"]'}
    assert "api_keys: missing, and require_api_keys is true" in error_of(required, misspelt)
    parse_config(json.dumps(required), {"OPENPI_API_KEY": "s3cret"}, source="server.json")
    parse_config(json.dumps({**required, "host": "127.0.0.1"}), {}, source="server.json")


RELAY = {"address": "meet.example", "name": "lab1", "token_file": "token"}


def test_two_slots_do_not_share_a_name_at_a_relay():
    slots = {"action": dict(ARM_ACTION), "planner": dict(PLANNER)}
    slots["action_transport"] = {"relay": RELAY}
    apart = {**slots, "planner_transport": {"relay": {**RELAY, "name": "lab1-planner"}}}
    parse_config(json.dumps(apart), {}, source="server.json")
    assert error_of({**slots, "planner_transport": {"relay": RELAY}}) == (
        "server.json: 1 problem\n"
        "  planner_transport.relay.name: lab1 is taken by action_transport.relay.name"
    )
    assert "action_transport.relay.token_file: missing" in error_of(
        {**slots, "action_transport": {"relay": {"address": "meet.example", "name": "lab1"}}}
    )


WRONG = ("wr0ng", 4.25, {"is": "wr0ng"})


@pytest.mark.parametrize("path", [path for path, _ in all_fields()], ids=".".join)
def test_a_problem_of_any_field_names_the_field_and_the_value_in_our_own_words(path):
    refused = 0
    for value in WRONG:
        values = {"planner": dict(PLANNER)}
        if path[0] == "action":
            values["action"] = dict(ARM_ACTION)
        if path[0] == "positronic":
            values |= {"action": dict(ARM_ACTION), "positronic": {"codec": "ee"}}
        if path[0] == "shadow":
            values = {"action": dict(ARM_ACTION)}
        if "relay" in path:
            values[path[0]] = {"relay": dict(RELAY)}
        parent = values
        for name in path[:-1]:
            parent = parent.setdefault(name, {})
        parent[path[-1]] = value
        if path[0].startswith("tls_"):
            values = {"tls_certificate": "x.pem", "tls_key": "x.pem", **values}
        try:
            parse_config(json.dumps(values), {}, source="server.json")
        except ConfigError as error:
            (problem,) = error.problems
            assert problem.path == ".".join(path)
            assert problem.message[0].islower() or problem.message.startswith("'wr0ng'")
            assert "input" not in problem.message.lower(), "these are pydantic's words"
            shown = repr(value) if isinstance(value, str) else json.dumps(value)
            shown = "wr0ng" if problem.message.startswith("wr0ng") else shown
            assert path[-1].startswith("api_key") or shown in problem.message
            refused += 1
    assert refused, "a field that takes everything"


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
