"""`openpi-flash ping` against real servers."""

import pytest
from server_configs import parse
from typer.testing import CliRunner

from flash_transport.auto import websocket_side
from openpi_flash_server.cli import app
from openpi_flash_server.commands.server_link import ServerLink, describe
from openpi_flash_server.probe.observation import observation_of
from openpi_flash_server.serving.service import Service

NULL_ACTION = {"model_config_name": "null"}


@pytest.fixture
def serve(tmp_path):
    """Opens a server of fixed chunks; returns its action endpoint."""
    opened = []

    def open_service(**more):
        ports = {"websocket_port": 0, "quic_port": 0}
        values = {"action": NULL_ACTION, "action_transport": ports, "host": "127.0.0.1"}
        service = Service(parse({**values, "state_dir": str(tmp_path / "state"), **more}))
        opened.append(service)
        service.load()
        return service.endpoints["action"]

    yield open_service
    for service in opened:
        service.close(grace=0)


def ping(*arguments, env=None):
    return CliRunner().invoke(app, ["ping", *map(str, arguments)], env=env)


def rows(result):
    return dict(line.split(maxsplit=1) for line in result.output.splitlines())


def test_quic_is_tried_first_and_says_what_is_served_and_how_fast(serve):
    endpoint = serve()
    result = ping("127.0.0.1", "--port", endpoint.quic.port)
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert found["QUIC"].startswith("connected in ")
    assert "is not authenticated" in found["trust"]
    assert "--server-fingerprint" in found["trust"]
    assert (found["model"], found["action_horizon"]) == ("null", "50")
    assert found["calls"].startswith("5 answered, min ")
    assert found["infer"].startswith("min ")


def test_a_pinned_server_is_verified(serve):
    endpoint = serve()
    given = ("--server-fingerprint", endpoint.quic.fingerprint)
    result = ping("127.0.0.1", "--port", endpoint.quic.port, *given)
    assert rows(result)["trust"] == "the server's certificate has the given fingerprint"
    result = ping("127.0.0.1", "--port", endpoint.quic.port, *given[:1], "0" * 64)
    assert result.exit_code == 1
    assert rows(result)["QUIC"].startswith("UntrustedServer: certificate of 127.0.0.1")


def test_where_quic_does_not_answer_websocket_does(serve):
    endpoint = serve()
    result = ping("127.0.0.1", "--port", endpoint.websocket.port, "--timeout", "2")
    assert result.exit_code == 0, result.output
    found = rows(result)
    assert found["QUIC"].startswith("Disconnected: cannot connect to 127.0.0.1:")
    assert found["WebSocket"].startswith("connected in ")
    assert found["calls"].startswith("5 answered, ")


@pytest.mark.parametrize(
    ("port", "tried"), [(None, 8000), (5555, 8000), (5556, 8002), (9000, 9000)]
)
def test_websocket_is_tried_beside_the_port_of_quic(monkeypatch, port, tried):
    ways = []

    def remember(fallback, **more):
        ways.append(fallback.encrypted)

    monkeypatch.setattr(websocket_side, "open_websocket", remember)
    ServerLink("127.0.0.1", port).fall_back()
    assert ways == [f"wss://127.0.0.1:{tried}"]


def test_a_key_comes_from_a_file_or_the_environment_and_is_never_shown(serve, tmp_path):
    port = serve(api_keys=["s3cret"]).quic.port
    where = ("127.0.0.1", "--port", port, "--transport", "quic")
    refused = ping(*where)
    assert refused.exit_code == 1
    assert rows(refused)["QUIC"].startswith("AuthenticationFailed: ")
    (tmp_path / "key").write_text("s3cret\n")
    assert ping(*where, "--api-key-file", tmp_path / "key").exit_code == 0
    assert ping(*where, env={"OPENPI_FLASH_API_KEY": "s3cret"}).exit_code == 0
    (tmp_path / "key").write_text("s3cret \x07\n")
    wrong = ping(*where, "--api-key-file", tmp_path / "key")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith(f"error: --api-key-file: {tmp_path}/key: line 1 must be")
    assert "s3cret" not in wrong.output


def test_a_host_that_is_none_is_refused_with_what_to_write():
    result = ping("0.0.0.0")
    assert result.exit_code == 2
    assert result.stderr.startswith('error: host "0.0.0.0" is what a server listens on')


def test_an_observation_has_what_the_robot_reads():
    observation = observation_of("aloha")
    assert observation["images"]["cam_high"].shape == (3, 224, 224)
    assert observation["state"].shape == (14,)


def test_a_server_that_says_nothing_of_itself_is_described_by_its_keys():
    assert list(describe({"reset_pose": [0]})) == [
        ("metadata", "names no model; its keys: reset_pose")
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--relay", "127.0.0.1"), "relay_token_file"),
        (("--relay-token-file", "/nowhere/token"), "relay"),
        (("--relay", "127.0.0.1", "--transport", "websocket"), "--relay: a relay carries QUIC"),
    ],
)
def test_a_relay_that_cannot_be_used_is_a_matter_of_the_command_line(arguments, problem):
    result = ping("lab1", *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert problem in result.output
