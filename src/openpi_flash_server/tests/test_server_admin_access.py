"""Who may use the operator's port."""

import asyncio

import pytest
from admin_service import ACTION, KEY
from server_configs import NULL_ACTION, error_of, parse

from openpi_flash_server.admin.access import OPEN_PATHS, AccessGate

CLOSED = ("/status", "/metrics", "/config", "/docs", "/openapi.json", "/v2/models/action")


@pytest.fixture
def closed(serve_admin):
    return serve_admin(admin={"api_key": KEY})


@pytest.mark.parametrize("path", CLOSED)
def test_a_port_with_a_key_is_closed_without_it(closed, path):
    status, headers, body = closed.ask("GET", path)
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert b"Authorization: Bearer" in body
    assert closed.get(path, key="wrong")[0] == 401
    assert closed.get(path, key=KEY)[0] == 200


def test_a_change_of_settings_needs_the_key(closed):
    before = closed.get("/config", key=KEY)
    assert closed.ask("PATCH", "/config", {"default_prompt": "x"})[0] == 401
    assert closed.get("/config", key=KEY) == before
    assert closed.ask("PATCH", "/config", {"default_prompt": "x"}, key=KEY)[0] == 200


@pytest.mark.parametrize("path", [*sorted(OPEN_PATHS), "/v2/models/action/ready"])
def test_probes_and_the_pages_own_files_need_no_key(closed, path):
    assert closed.ask("GET", path)[0] == 200


def test_the_keys_of_clients_do_not_open_the_port(serve_admin):
    server = serve_admin(admin={"api_key": KEY}, api_keys=["robots-key"], action=ACTION)
    assert server.get("/status", key="robots-key")[0] == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8001", "10.0.0.5", ""])
def test_a_page_elsewhere_cannot_reach_the_port_under_its_own_name(serve_admin, host):
    status, _, body = serve_admin().ask("GET", "/status", Host=host)
    assert status == 421
    assert b"localhost" in body


@pytest.mark.parametrize("host", ["localhost", "localhost:8001", "127.0.0.1", "[::1]:8001"])
def test_this_machine_may_be_named_in_its_ways(serve_admin, host):
    assert serve_admin().ask("GET", "/status", Host=host)[0] == 200


def test_who_guesses_keys_waits_longer_and_longer():
    pauses, sent = [], []
    now = [0.0]

    async def pause(seconds):
        pauses.append(seconds)

    async def send(message):
        sent.append(message)

    async def inside(scope, receive, send):
        sent.append("let in")

    gate = AccessGate(inside, keys=[KEY], host="0.0.0.0", clock=lambda: now[0], pause=pause)

    def ask(key):
        scope = {
            "type": "http",
            "path": "/status",
            "headers": [(b"authorization", f"Bearer {key}".encode())],
            "client": ("10.0.0.7", 1),
        }
        asyncio.run(gate(scope, None, send))

    for attempt in range(12):
        ask(f"guess {attempt}")
    assert pauses == [0.25, 0.5, 1.0]
    assert "let in" not in sent
    ask(KEY)
    assert sent[-1] == "let in", "a robot's operator behind the same address gets in, only later"


def test_a_port_that_others_reach_needs_a_key():
    assert error_of({"action": NULL_ACTION, "admin": {"host": "0.0.0.0"}}) == (
        "server.json: 1 problem\n  admin.host: must be 127.0.0.1, ::1 or localhost unless api_key "
        "or api_key_file is set, got '0.0.0.0'"
    )
    config = parse({"action": NULL_ACTION, "admin": {"host": "0.0.0.0", "api_key": KEY}})
    assert config.admin.keys == (KEY,)
    assert KEY not in repr(config)
    assert parse({"action": NULL_ACTION, "admin": {"host": "0.0.0.0", "enabled": False}})


def test_keys_may_be_in_a_file(tmp_path):
    (tmp_path / "keys").write_text(f"# operators\n{KEY}\nanother\n")
    config = parse({"action": NULL_ACTION, "admin": {"api_key_file": str(tmp_path / "keys")}})
    assert config.admin.keys == (KEY, "another")
    problem = error_of({"action": NULL_ACTION, "admin": {"api_key_file": "/no/such/file"}})
    assert "admin.api_key_file: /no/such/file: no such file" in problem


def test_a_key_that_is_none_is_not_shown():
    problem = error_of({"action": NULL_ACTION, "admin": {"api_key": "not a key"}})
    assert "admin.api_key: must be printable ASCII" in problem
    assert "not a key" not in problem


def test_the_port_may_not_be_that_of_a_slot():
    values = {"action": NULL_ACTION, "action_transport": {"websocket_port": 8001}}
    assert "admin.port: 8001 is taken by action_transport.websocket_port" in error_of(values)
    assert parse({**values, "admin": {"enabled": False}})
