"""What a configuration may say, and where it comes from."""

import dataclasses

import pytest
from server_configs import ARM_ACTION, FAST_ACTION, NULL_ACTION, PLANNER, error_of, parse

from openpi_flash_models.actions.rtc import RtcOptions
from openpi_flash_models.config import named_configs
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON, SWITCHES
from openpi_flash_server.config.file import load_config
from openpi_flash_server.config.problems import ConfigError
from openpi_flash_server.config.server_config import Mode

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
        assert f"{missing}: missing, set it too: {given} is of no use without it" in error


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
    assert parse({"action": ARM_ACTION}).action.model_config_name == "pi05_sim_arm"


def test_every_switch_of_the_models_can_be_set_and_has_the_models_default():
    settings = parse({"action": ARM_ACTION}).action
    of_device = ALL_ON.switched(token_buckets=(7,))
    assert settings.graph.options(of_device) == of_device
    assert settings.rtc.options() == RtcOptions()
    others = {"schedule": "linear", "max_guidance": 2}
    assert parse({"action": {**ARM_ACTION, "rtc": others}}).action.rtc.options() == RtcOptions(
        "identity", "linear", 2.0
    )
    switches = dict.fromkeys(SWITCHES - {"token_buckets"}, False)
    values = {**ARM_ACTION, "graph": {**switches, "token_buckets": [8, 16]}}
    options = parse({"action": values}).action.graph.options(of_device)
    assert options == ALL_OFF.switched(token_buckets=(8, 16))


def test_real_time_chunking_can_be_off_and_is_no_problem_of_a_model_that_has_none():
    off = {"rtc": {"method": "off"}}
    assert parse({"action": {**ARM_ACTION, **off}}).action.rtc.options() is None
    assert parse({"action": {**FAST_ACTION, **off}}).action.rtc.options() is None
    assert parse({"action": FAST_ACTION}).action.rtc.method == "identity"


def test_a_method_that_the_robot_cannot_do_is_an_error(monkeypatch):
    config = named_configs.CONFIGS["pi05_sim_arm"]
    robot = dataclasses.replace(config.robot, actions_to_model=None)
    one_way = dataclasses.replace(config, robot=robot)
    monkeypatch.setitem(named_configs.CONFIGS, "pi05_sim_arm", one_way)
    assert parse({"action": ARM_ACTION})
    assert error_of({"action": {**ARM_ACTION, "rtc": {"method": "identity"}}}) == (
        "server.json: 1 problem\n  action.rtc.method: the robot sim_arm has no "
        "actions_to_model, must be 'off', got 'identity'"
    )


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
    assert parse({"action": NULL_ACTION}).certificate_dir() == tmp_path / "openpi-flash"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/robot")
    default = parse({"action": NULL_ACTION}).certificate_dir()
    assert str(default) == "/home/robot/.local/state/openpi-flash"
    chosen = parse({"action": NULL_ACTION, "state_dir": "~/keys"}).certificate_dir()
    assert str(chosen) == "/home/robot/keys"


# the environment


def test_the_environment_goes_over_the_file_field_by_field():
    config = parse(
        {"action": {**NULL_ACTION, "default_prompt": "file"}, "host": "10.0.0.1"},
        {
            "OPENPI_ACTION__DEFAULT_PROMPT": "environment",
            "OPENPI_ACTION__RTC__METHOD": "vjp",
            "OPENPI_ACTION__GRAPH__TOKEN_BUCKETS": "[16]",
            "OPENPI_ACTION_TRANSPORT__QUIC_PORT": "6000",
            "OPENPI_API_KEYS": '["one", "two"]',
            "OPENPI_EXPOSE_TRACEBACKS": "false",
        },
    )
    assert config.action.default_prompt == "environment"
    assert config.action.model_config_name == "null"
    assert config.action.rtc.method == "vjp"
    assert config.action.graph.token_buckets == (16,)
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
