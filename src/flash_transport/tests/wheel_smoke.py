"""What an installed wheel must do, with numpy and nothing else.

usage: python wheel_smoke.py     (away from the sources, so that the wheel is imported)
"""

import threading

import numpy as np

import flash_transport
from flash_transport import FlashTransportPolicy, QuicServer, image_to_rgb, resize_with_pad


def answer_one(server: QuicServer) -> None:
    """Sends an observation back."""
    request = server.next_request(timeout=30)
    assert request is not None, "no request came"
    request.respond({"echo": request.observation})


def main() -> None:
    """One observation, from a camera's bytes to a server and back, over real QUIC."""
    assert flash_transport.implementation == "native"
    camera = np.arange(48 * 64 * 3, dtype=np.uint8)
    image = image_to_rgb(camera.tobytes(), height=48, width=64, step=192, encoding="bgr8")
    observation = {
        "image": resize_with_pad(image, 224, 224),
        "state": np.linspace(0, 1, 7, dtype=np.float32),
        "prompt": "pick up the cube",
    }
    with QuicServer("127.0.0.1", 0, metadata={"model": "smoke"}) as server:
        thread = threading.Thread(target=answer_one, args=(server,))
        thread.start()
        with FlashTransportPolicy(
            "127.0.0.1", server.port, server_fingerprint=server.fingerprint
        ) as policy:
            assert policy.get_server_metadata() == {"model": "smoke"}
            echo = policy.infer(observation, timeout=30)["echo"]
        thread.join()
    for key, sent in observation.items():
        assert np.array_equal(echo[key], sent), key
    print(f"flash_transport {flash_transport.__version__}, numpy {np.__version__}: ok")  # noqa: T201


if __name__ == "__main__":
    main()
