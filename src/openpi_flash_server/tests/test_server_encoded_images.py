"""Images that arrive as JPEG, up to the policy, on both transports."""

import threading

import numpy as np
import pytest
import websockets.sync.client
from server_fakes import CLIENT, SPEC, WAIT, FakePolicy, Inbox, open_with

from flash_transport import (
    FlashTransportPolicy,
    ServerError,
    WebsocketPolicy,
    jpeg_message,
    packb,
    unpackb,
)
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.metadata import action_metadata, planner_metadata
from openpi_flash_server.slot.encoded_images import decode_images
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.certificate import KeptCertificate
from openpi_flash_server.transports.quic import QuicTransport
from openpi_flash_server.transports.websocket.listener import WebsocketTransport

Y, X = np.mgrid[0:48, 0:64]
IMAGE = np.stack([Y * 5, X * 3, (Y + X) * 2], -1).astype(np.uint8)


def is_near(decoded, image):
    assert (decoded.dtype, decoded.shape) == (np.uint8, image.shape)
    return np.abs(decoded.astype(int) - image).mean() < 2


def test_an_encoded_image_becomes_the_array_that_it_was():
    chw = IMAGE.transpose(2, 0, 1)
    message = {
        "images": {"cam_high": jpeg_message(chw), "raw": IMAGE},
        "list": [jpeg_message(IMAGE, 90)],
        "prompt": "pick",
        "state": np.zeros(2),
    }
    decoded = decode_images(message)
    assert is_near(decoded["images"]["cam_high"], chw)
    assert is_near(decoded["list"][0], IMAGE)
    assert decoded["images"]["raw"] is IMAGE
    assert decoded["prompt"] == "pick"
    assert message["images"]["cam_high"]["__image__"] == "jpeg"


GOOD = jpeg_message(IMAGE)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (GOOD | {"__image__": "webp"}, "__image__ is 'webp', expected 'jpeg'"),
        (GOOD | {"data": "text"}, "data is str, expected bytes"),
        ({"__image__": "jpeg"}, "data is NoneType, expected bytes"),
        (GOOD | {"layout": "cwh"}, "layout is 'cwh', expected 'hwc' or 'chw'"),
        (GOOD | {"data": b"GIF89a"}, "encoded image is 6 bytes that start with [47, 49, 46, 38]"),
        (GOOD | {"data": GOOD["data"][:-40]}, "cannot be decoded: its end is missing"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named_by_its_key(image, problem):
    with pytest.raises(ObservationError) as refusal:
        decode_images({"images": {"cam_high": image}})
    assert str(refusal.value).startswith("images/cam_high: ")
    assert problem in str(refusal.value)


def test_all_images_of_a_message_share_one_limit():
    size = IMAGE.nbytes
    message = {"one": jpeg_message(IMAGE), "two": jpeg_message(IMAGE)}
    decode_images(message, max_bytes=2 * size)
    with pytest.raises(ObservationError, match=rf"^two: .* expected at most {size - 1}$"):
        decode_images(message, max_bytes=2 * size - 1)


def test_the_metadata_says_that_jpeg_is_read():
    assert "jpeg" in action_metadata(SPEC, has_planner=False)["supports"]
    assert "jpeg" in planner_metadata(SPEC, None)["supports"]


def test_decoding_images_counts_as_decoding():
    slot = Slot("action")
    open_with(slot, ActionHandler(FakePolicy()))
    try:
        times = []
        for message in ({"image": IMAGE}, {"image": jpeg_message(np.tile(IMAGE, (20, 20, 1)))}):
            inbox = Inbox()
            slot.receive(
                lambda message=message: message | {"state": np.zeros(2)},
                client=CLIENT,
                session="robot",
                respond=inbox,
                is_cancelled=lambda: False,
            )
            times.append(inbox.wait().result["server_timing"]["decode_ms"])
    finally:
        slot.close(grace=WAIT)
    # 1280x960 pixels against none
    assert times[1] > times[0] + 1.0


@pytest.fixture(params=["quic", "websocket"])
def served(request, tmp_path):
    """A policy and a client of it."""
    policy, slot = FakePolicy(), Slot("action")
    if request.param == "quic":
        transport = QuicTransport(
            slot, host="127.0.0.1", port=0, certificate=KeptCertificate(tmp_path)
        )
    else:
        transport = WebsocketTransport(slot, host="127.0.0.1", port=0)
    open_with(slot, ActionHandler(policy))
    transport.publish(action_metadata(SPEC, has_planner=False))
    try:
        if request.param == "quic":
            client = FlashTransportPolicy("127.0.0.1", transport.port)
        else:
            client = WebsocketPolicy("127.0.0.1", transport.port)
        with client:
            yield policy, client
    finally:
        slot.close(grace=WAIT)
        transport.close(grace=WAIT)


def test_a_policy_sees_arrays_whatever_the_transport(served):
    policy, client = served
    client.infer({"state": np.zeros(2), "image": jpeg_message(IMAGE)}, timeout=WAIT)
    assert is_near(policy.seen[0]["image"], IMAGE)


def test_a_bad_image_is_a_bad_request_and_the_connection_goes_on(served):
    _, client = served
    bad = {"state": np.zeros(2), "images": {"wrist": GOOD | {"data": b"\xff\xd8"}}}
    with pytest.raises(ServerError, match="images/wrist: jpeg of 2 bytes") as refusal:
        client.infer(bad, timeout=WAIT)
    assert refusal.value.code == "bad_request"
    client.infer({"state": np.zeros(2), "image": GOOD}, timeout=WAIT)


def test_the_event_loop_turns_while_images_are_decoded(monkeypatch):
    decoding, go_on = threading.Event(), threading.Event()

    def slow(message):
        decoding.set()
        assert go_on.wait(WAIT)
        return decode_images(message)

    monkeypatch.setattr("openpi_flash_server.slot.decoding.decode_images", slow)
    slot = Slot("action")
    transport = WebsocketTransport(slot, host="127.0.0.1", port=0)
    open_with(slot, ActionHandler(FakePolicy()))
    transport.publish(action_metadata(SPEC, has_planner=False))
    address = f"ws://127.0.0.1:{transport.port}"
    try:
        with websockets.sync.client.connect(address, compression=None) as busy:
            busy.recv(WAIT)
            busy.send(packb({"state": np.zeros(2), "image": GOOD}))
            assert decoding.wait(WAIT)
            with websockets.sync.client.connect(address, compression=None) as other:
                assert "supports" in unpackb(other.recv(WAIT))
                assert other.ping().wait(WAIT)
            go_on.set()
            assert "actions" in unpackb(busy.recv(WAIT))
    finally:
        go_on.set()
        slot.close(grace=WAIT)
        transport.close(grace=WAIT)
