"""What an installed wheel must do: one observation there and back over every link it has.

usage: python wheel_smoke.py     (away from the sources, so that the wheel is imported)

Needs numpy and nothing else; the WebSocket link is tried where `websockets` is installed.
"""

import contextlib
import importlib.util
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import flash_transport
from flash_transport import (
    FlashTransportPolicy,
    LocalServer,
    QuicServer,
    image_to_rgb,
    packb,
    resize_with_pad,
    unpackb,
)

METADATA = {"model": "smoke"}


@contextlib.contextmanager
def quic() -> Iterator[flash_transport.Policy]:
    """A client that has pinned the server's certificate."""
    server = QuicServer("127.0.0.1", 0, metadata=METADATA)
    pin = server.fingerprint
    with (
        _echoing(server),
        FlashTransportPolicy("127.0.0.1", server.port, server_fingerprint=pin) as policy,
    ):
        yield policy


@contextlib.contextmanager
def unix() -> Iterator[flash_transport.Policy]:
    """A client on the server's own computer."""
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        path = Path(folder) / "s"
        server = LocalServer(path, metadata=METADATA)
        with _echoing(server), FlashTransportPolicy(f"unix:{path}") as policy:
            yield policy


@contextlib.contextmanager
def websocket() -> Iterator[flash_transport.Policy]:
    """A client of a server that speaks openpi's protocol and knows nothing of ours."""
    import websockets.sync.server
    from websockets.exceptions import ConnectionClosed

    def talk(connection: websockets.sync.server.ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.send(packb(METADATA))
            while True:
                message = connection.recv()
                assert isinstance(message, bytes)
                connection.send(packb({"echo": unpackb(message)}))

    with websockets.sync.server.serve(
        talk, "127.0.0.1", 0, compression=None, max_size=None
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with flash_transport.WebsocketPolicy("127.0.0.1", port) as policy:
            yield policy
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def _echoing(server: "QuicServer | LocalServer") -> Iterator[None]:
    """Sends every observation back until the block ends, and closes the server."""

    def serve() -> None:
        while (request := server.next_request()) is not None:
            request.respond({"echo": request.observation})

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join()


def check(link: Callable[[], contextlib.AbstractContextManager[flash_transport.Policy]]) -> None:
    """From a camera's bytes to a server and back."""
    camera = np.arange(48 * 64 * 3, dtype=np.uint8)
    image = image_to_rgb(camera.tobytes(), height=48, width=64, step=192, encoding="bgr8")
    observation = {
        "image": resize_with_pad(image, 224, 224),
        "state": np.linspace(0, 1, 7, dtype=np.float32),
        "prompt": "pick up the cube",
    }
    with link() as policy:
        assert policy.get_server_metadata() == METADATA
        echo = policy.infer(observation, timeout=30)["echo"]
    assert echo.keys() == observation.keys()
    for key, sent in observation.items():
        assert np.array_equal(echo[key], sent), key


def main() -> None:
    """Every link that can be had here."""
    assert flash_transport.implementation == "native"
    links = [quic, unix]
    if importlib.util.find_spec("websockets") is not None:
        links.append(websocket)
    for link in links:
        check(link)
    names = ", ".join(link.__name__ for link in links)
    print(  # noqa: T201
        f"flash_transport {flash_transport.__version__}, Python {platform.python_version()}, "
        f"numpy {np.__version__}: {names}: ok"
    )


if __name__ == "__main__":
    main()
