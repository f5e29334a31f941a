"""node.py over openpi's WebSocket protocol, against a server that says nothing about itself."""

import threading

import numpy as np
import pytest

import flash_transport
from flash_transport import packb, pure, unpackb
from openpi_flash_client_node.ros import node
from openpi_flash_msgs.msg import PolicyStatus
from openpi_flash_robot.link import transport
from openpi_flash_robot.senses.observation import ImageWork

sync_server = pytest.importorskip("websockets.sync.server")
pytest.importorskip("flash_transport.websocket")


class OpenpiServer:
    """Metadata first, then one answer per observation: all that openpi's server does."""

    def __init__(self, port=0):
        self.requests = []
        self._socket = sync_server.serve(
            self._handle, "127.0.0.1", port, compression=None, max_size=None
        )
        self.port = self._socket.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._socket.serve_forever, daemon=True)
        self._thread.start()
        self._connections = set()

    def _handle(self, connection):
        self._connections.add(connection)
        connection.send(packb({}))
        for frame in connection:
            observation = unpackb(frame)
            self.requests.append(observation)
            state = observation["observation/state"]
            connection.send(packb({"actions": np.tile(state, (50, 1)).astype(np.float64)}))

    def close(self):
        self._socket.shutdown()
        for connection in self._connections:
            connection.close()
        self._thread.join(10)


@pytest.fixture
def openpi():
    servers = []

    def serve(port=0):
        servers.append(OpenpiServer(port))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def test_an_openpi_server_moves_the_robot_if_the_rate_is_given(ros, robot, openpi, make_node):
    server = openpi()
    make_node(transport="websocket", port=server.port, action_rate_hz=50.0)
    status = robot.until_state(PolicyStatus.RUNNING)
    assert status.transport == "websocket"
    chunk = ros.until(lambda: robot.chunks, "a chunk")[0]
    assert chunk.step_dt.nanosec == 20_000_000
    assert server.requests[0]["observation/scene_image"].shape == (224, 224, 3)
    ros.until(lambda: robot.trajectories["arm"], "a trajectory")
    stats = ros.until(lambda: robot.stats, "stats")[-1]
    assert 0 < stats.serialize < 1
    assert stats.bytes_up == len(packb(server.requests[-1]))
    assert stats.bytes_down == len(packb({"actions": np.zeros((50, 3))}))


def test_without_a_rate_it_says_which_parameter_is_missing(robot, openpi, make_node):
    make_node(transport="websocket", port=openpi().port)
    robot.until_state(PolicyStatus.FAULT, "set the parameter action_rate_hz")


def test_a_websocket_server_that_leaves_is_a_hold_and_its_return_a_recovery(
    robot, openpi, make_node
):
    server = openpi()
    make_node(transport="websocket", port=server.port, action_rate_hz=50.0, connect_timeout=0.5)
    robot.until_state(PolicyStatus.RUNNING)
    server.close()
    robot.until_state(PolicyStatus.DISCONNECTED)
    openpi(server.port)
    robot.until_state(PolicyStatus.RUNNING)


@pytest.fixture
def without_compiled_half(monkeypatch):
    monkeypatch.setattr(flash_transport, "implementation", "pure")
    monkeypatch.setattr(flash_transport.websocket.policy, "packb", pure.packb)
    monkeypatch.setattr(flash_transport.websocket.connection, "unpackb", pure.unpackb)
    monkeypatch.setattr(transport, "image_to_rgb", pure.image_to_rgb)
    work = ImageWork(transport.decode_message, pure.resize_with_pad, pure.jpeg_message)
    monkeypatch.setattr(node, "IMAGE_WORK", work)


def test_the_robot_moves_without_the_compiled_half_of_flash_transport(
    without_compiled_half, robot, openpi, make_node
):
    server = openpi()
    make_node(transport="websocket", port=server.port, action_rate_hz=50.0)
    robot.until_state(PolicyStatus.RUNNING)
    assert server.requests[0]["observation/scene_image"].shape == (224, 224, 3)


@pytest.fixture
def dead_proxy(monkeypatch, free_port):
    """A proxy in every variable that names one, and nobody behind it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port}")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    dead_proxy, robot, openpi, make_node, host
):
    make_node(transport="websocket", server=host, port=openpi().port, action_rate_hz=50.0)
    robot.until_state(PolicyStatus.RUNNING)


def test_the_port_may_stand_in_the_servers_address(robot, openpi, make_node):
    port = openpi().port
    address = f"ws://127.0.0.1:{port}"
    make_node(transport="websocket", server=address, port=0, action_rate_hz=50.0)
    assert robot.until_state(PolicyStatus.RUNNING).server == address
