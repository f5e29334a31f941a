"""Fixtures of more than one file."""

import concurrent.futures

import pytest
from admin_service import AdminService
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import WebsocketServer
from server_fakes import FakePolicy
from server_process import Process


@pytest.fixture
def start(tmp_path):
    processes = []

    def start_(config, **options):
        processes.append(Process(tmp_path, config, **options))
        return processes[-1]

    yield start_
    for process in processes:
        process.kill()


@pytest.fixture
def in_background():
    """Runs blocking calls beside the test."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool.submit


@pytest.fixture
def serve_websocket():
    """`serve_websocket(policy, ...)` is a WebSocket server until the test ends."""
    servers = []

    def start(policy=None, **options):
        servers.append(WebsocketServer(policy or FakePolicy(), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def openpi_client():
    """Makes clients of openpi and closes what it leaves open."""
    clients = []

    def connect(port, **options):
        clients.append(WebsocketClientPolicy("127.0.0.1", port, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client._ws.close()


@pytest.fixture
def serve_admin(tmp_path):
    """`serve_admin(...)` is a service with an operator's port until the test ends."""
    services = []

    def start(**options):
        services.append(AdminService(tmp_path / "state", **options))
        return services[-1]

    yield start
    for service in services:
        assert service.close()
