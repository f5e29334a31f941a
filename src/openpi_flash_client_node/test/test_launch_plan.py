"""launch_plan.py: what the launch file makes of its arguments."""

import pytest

from openpi_flash_client_node.launch_plan import (
    ARGUMENTS,
    DEMO_ARGUMENTS,
    LaunchArgumentError,
    check_end,
    plan,
)

DEFAULTS = {argument.name: argument.default for argument in ARGUMENTS}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "robots").mkdir()
    for robot in ("arm", "two.arms"):
        (tmp_path / "robots" / f"{robot}.yaml").touch()
    return tmp_path


def test_empty_arguments_leave_everything_to_the_parameter_file(config):
    found = plan(DEFAULTS | {"robot": "arm"}, config)
    assert found.params_file == str(config / "robots" / "arm.yaml")
    assert found.overrides == {}
    assert (found.namespace, found.node_name) == ("openpi", "client_node")
    assert (found.log_level, found.respawn) == ("info", False)


def test_arguments_win_over_the_file_with_their_own_types(config):
    given = {
        "server": "10.0.0.5",
        "port": "5556",
        "transport": "websocket",
        "prompt": "1",
        "dry_run": "false",
        "autostart": "true",
        "use_sim_time": "true",
    }
    assert plan(DEFAULTS | given | {"robot": "arm"}, config).overrides == {
        "server": "10.0.0.5",
        "port": 5556,
        "transport": "websocket",
        "prompt": "1",
        "dry_run": False,
        "autostart": True,
        "use_sim_time": True,
    }


def test_a_file_of_ones_own_is_used_instead_of_the_robots(config):
    given = {"robot": "none", "params_file": "/my/robot.yaml"}
    assert plan(DEFAULTS | given, config).params_file == "/my/robot.yaml"


def test_an_unknown_robot_is_refused_with_those_there_are(config):
    with pytest.raises(LaunchArgumentError) as error:
        plan(DEFAULTS | {"robot": "leg"}, config)
    assert str(error.value) == (
        f"no robot 'leg' in {config / 'robots'}; there is arm, two.arms. "
        "For one of your own, set params_file"
    )


def test_a_port_that_is_no_number_is_refused(config):
    with pytest.raises(LaunchArgumentError, match="argument port must be a number, got 'quic'"):
        plan(DEFAULTS | {"port": "quic", "robot": "arm"}, config)


def test_every_argument_has_a_description_and_a_default_among_its_choices():
    assert len(DEFAULTS) == len(ARGUMENTS)
    for argument in ARGUMENTS + DEMO_ARGUMENTS:
        assert argument.description
        assert not argument.choices or argument.default in argument.choices


@pytest.mark.parametrize("return_code", [0, None])
def test_a_process_that_ends_as_it_should_is_no_error(return_code):
    check_end("client_node", return_code, "look")
