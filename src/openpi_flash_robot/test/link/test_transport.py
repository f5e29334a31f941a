"""transport.py: what the node uses of flash_transport."""

import contextlib
import dataclasses
import threading

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

import flash_transport
import flash_transport.pure
from openpi_flash_robot.link import transport
from openpi_flash_robot.link.events import FailureKind
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters


class Message:
    height, width, step = 2, 2, 8
    encoding, is_bigendian = "bgr8", 0
    data = bytes([1, 2, 3, 4, 5, 6, 0, 0] * 2)


def test_a_camera_message_is_decoded_with_its_own_step_and_encoding():
    image = transport.decode_message(Message())
    assert image.tolist() == [[[3, 2, 1], [6, 5, 4]]] * 2


class PackedMessage:
    height, width, step = 2, 2, 6
    encoding, is_bigendian = "rgb8", 0
    data = bytes(range(12))


def test_pixels_that_are_rgb_already_are_not_copied():
    message = PackedMessage()
    image = transport.decode_message(message)
    assert image.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert np.shares_memory(image, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"data": bytes(11)}, "11"),
        ({"height": 0, "data": b""}, "0"),
        ({"width": 3}, "step"),
    ],
)
def test_rgb_pixels_that_do_not_fit_are_an_image_error(fields, problem):
    message = PackedMessage()
    for name, value in fields.items():
        setattr(message, name, value)
    with pytest.raises(flash_transport.ImageError, match=problem):
        transport.decode_message(message)


def test_bytes_behind_the_rows_are_left_out():
    message = PackedMessage()
    message.data = bytes(range(14))
    assert transport.decode_message(message).shape == (2, 2, 3)


class CompressedMessage:
    format = "rgb8; jpeg compressed bgr8"
    data = flash_transport.encode_jpeg(np.full((64, 96, 3), (200, 100, 50), np.uint8))


def test_a_compressed_message_is_decoded_and_may_come_out_smaller():
    image = transport.decode_message(CompressedMessage())
    assert image.shape == (64, 96, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 2
    assert transport.decode_message(CompressedMessage(), (16, 24)).shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("format_", "data", "problem"),
    [
        ("16UC1; compressedDepth png", b"", "'16UC1; compressedDepth png' is a depth image"),
        ("bayer_rggb8; jpeg compressed bayer_rggb8", b"", "is a Bayer pattern"),
        ("jpeg", b"\xff\xd8", "image format 'jpeg': jpeg of 2 bytes cannot be decoded"),
    ],
)
def test_a_compressed_message_that_is_no_picture_is_an_image_error(format_, data, problem):
    message = CompressedMessage()
    message.format, message.data = format_, data
    with pytest.raises(flash_transport.ImageError, match=problem):
        transport.decode_message(message)


def test_an_unknown_encoding_is_an_image_error_that_names_it():
    message = Message()
    message.encoding = "32FC1"
    with pytest.raises(flash_transport.ImageError, match="32FC1"):
        transport.decode_message(message)


def test_resize_keeps_the_aspect_and_pads_with_black():
    image = transport.IMAGE_WORK.resize(np.full((10, 20, 3), 200, np.uint8), 8, 8)
    assert image.shape == (8, 8, 3)
    assert image[0].max() == 0
    assert image[4].min() > 190


def errors_of_flash_transport():
    for name in flash_transport.__all__:
        value = getattr(flash_transport, name, None)
        if isinstance(value, type) and issubclass(value, Exception):
            yield value


@pytest.mark.parametrize("error", errors_of_flash_transport(), ids=lambda e: e.__name__)
def test_every_error_of_flash_transport_has_a_kind_and_a_message(error):
    two_words = (flash_transport.NativeMissing, flash_transport.ServerError)
    arguments = ("internal", "why") if error in two_words else ("why",)
    raised = error(*arguments)
    assert isinstance(transport.failure_kind(raised), FailureKind)
    assert "why" in transport.failure_message(raised)
    final = (
        flash_transport.AuthenticationFailed,
        flash_transport.NativeMissing,
        flash_transport.UntrustedServer,
    )
    assert transport.needs_human(raised) == (error in final)


def resolved(transport_name, server, port=0):
    given = {"server": server, "transport": transport_name, "port": port}
    parameters = {"joints": ["a"], "cameras": ["c"], "camera.c.topic": "/c", "camera.c.key": "c"}
    return transport.resolve_server(settings_from_parameters(parameters | given).link)


@pytest.mark.parametrize("name", ["quic", "websocket"])
@pytest.mark.parametrize(
    ("server", "port", "host", "shown"),
    [
        ("10.0.0.5", 0, "10.0.0.5", "10.0.0.5:{own}"),
        ("10.0.0.5", 7, "10.0.0.5", "10.0.0.5:7"),
        ("10.0.0.5:7", 0, "10.0.0.5", "10.0.0.5:7"),
        ("10.0.0.5:7", 7, "10.0.0.5", "10.0.0.5:7"),
        ("gpu.lab", 0, "gpu.lab", "gpu.lab:{own}"),
        ("::1", 0, "::1", "[::1]:{own}"),
        ("[::1]", 0, "::1", "[::1]:{own}"),
        ("[::1]:7", 0, "::1", "[::1]:7"),
    ],
)
def test_a_server_is_taken_in_every_form_that_people_write(name, server, port, host, shown):
    own = {"quic": 5555, "websocket": 8000}[name]
    link = resolved(name, server, port)
    assert link.host == host
    assert link.server == shown.format(own=own)
    assert link.server.endswith(f":{link.port}")


@pytest.mark.parametrize("name", ["quic", "websocket"])
@pytest.mark.parametrize(
    ("server", "port", "what_to_write"),
    [
        ("0.0.0.0", 0, "write one of those, or 127.0.0.1"),
        ("::", 0, "write one of those, or 127.0.0.1"),
        ("10.0.0.5:7", 8, "holds port 7, but port is 8; give the port once"),
        ("10.0.0.5:", 0, "expected a whole number from 1 to 65535"),
        ("http://10.0.0.5", 0, "write"),
        ("10.0.0.5/infer", 0, "write the name or the address alone"),
        ("10.0.0", 0, "write four numbers from 0 to 255"),
        ("[::1", 0, "write one such as ::1"),
        ("gpu 1", 0, "holds a space; write it without"),
        ("gpu\n", 0, "write"),
    ],
)
def test_another_server_is_refused_with_the_parameter_and_what_to_write(
    name, server, port, what_to_write
):
    with pytest.raises(ParameterError) as error:
        resolved(name, server, port)
    assert str(error.value).startswith("parameter server: host ") or "the port in" in str(
        error.value
    )
    assert what_to_write in str(error.value)


def test_a_uri_is_for_websocket_and_a_unix_socket_for_quic():
    link = resolved("websocket", "wss://gpu.lab/robot?token=secret")
    assert (link.host, link.port) == ("wss://gpu.lab/robot?token=secret", None)
    assert link.server.startswith("wss://gpu.lab:443/robot")
    assert "secret" not in link.server
    with pytest.raises(ParameterError, match="write the host without ws://"):
        resolved("quic", "ws://gpu.lab")
    link = resolved("quic", "unix:/run/openpi.sock")
    assert (link.host, link.server) == ("unix:/run/openpi.sock", "unix:/run/openpi.sock")
    with pytest.raises(ParameterError, match="parameter server: "):
        resolved("websocket", "unix:/run/openpi.sock")


def test_a_setting_that_is_malformed_needs_a_human(settings):
    link = dataclasses.replace(settings.link, server_fingerprint="not hex")
    with pytest.raises((ValueError, flash_transport.FlashTransportError)) as error:
        transport.open_policy(link)
    assert transport.needs_human(error.value)
    assert transport.failure_message(error.value).startswith("server_fingerprint must be the 64 ")


def test_a_wrong_api_key_is_told_with_the_parameter_to_set():
    message = transport.failure_message(flash_transport.AuthenticationFailed("not this key"))
    assert message == (
        "not this key; write a key of the server into the file of the parameter api_key_file, or "
        "into OPENPI_FLASH_API_KEY, and start the node again"
    )


def test_quic_without_the_compiled_half_is_for_a_human_and_says_what_to_install(
    settings, monkeypatch
):
    monkeypatch.setattr(
        flash_transport, "FlashTransportPolicy", flash_transport.pure.FlashTransportPolicy
    )
    with pytest.raises(flash_transport.NativeMissing) as error:
        transport.open_policy(dataclasses.replace(settings.link, transport="quic"))
    assert transport.needs_human(error.value)
    assert "pip install ./src/flash_transport" in transport.failure_message(error.value)


def test_a_missing_compiled_half_is_news_and_a_present_one_is_not(monkeypatch):
    monkeypatch.setattr(flash_transport, "implementation", "native")
    assert transport.installation_notice() == ""
    monkeypatch.setattr(flash_transport, "implementation", "pure")
    assert "pip install ./src/flash_transport" in transport.installation_notice()


def test_what_nobody_expects_is_a_lost_link():
    assert transport.failure_kind(RuntimeError("x")) is FailureKind.LINK
    assert transport.failure_message(RuntimeError("x")) == "RuntimeError: x"


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("10.0.0.5", "auto"),
        ("10.0.0.5:5556", "auto"),
        ("unix:/run/x.sock", "quic"),
        ("wss://gpu.lab", "websocket"),
    ],
)
def test_auto_chooses_where_there_is_a_choice(settings, server, name):
    link = dataclasses.replace(settings.link, host=server, port=None, transport="auto")
    assert transport.resolve_server(link).transport == name


def test_auto_uses_websocket_where_nobody_listens_on_the_udp_port(settings, free_port):
    def talk(connection):
        connection.send(flash_transport.packb({"model": "over tcp"}))
        with contextlib.suppress(ConnectionClosed):
            connection.recv()

    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        link = dataclasses.replace(
            settings.link,
            host="127.0.0.1",
            port=free_port,
            transport="auto",
            websocket_port=server.socket.getsockname()[1],
            connect_timeout=30.0,
        )
        policy = transport.open_policy(link)
        assert policy.get_server_metadata() == {"model": "over tcp"}
        name, reason = transport.transport_in_use(policy)
        assert name == "websocket"
        assert reason == "over QUIC nothing listens there"
        policy.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["auto", "quic", "websocket"])
def test_no_server_is_an_error_of_flash_transport_within_the_timeout(settings, name, free_port):
    link = dataclasses.replace(settings.link, transport=name, port=free_port, connect_timeout=0.3)
    with pytest.raises(flash_transport.FlashTransportError, match=str(free_port)):
        transport.open_policy(link)


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_wrong_key_needs_a_human_before_anything_is_asked(settings, key):
    with flash_transport.QuicServer("127.0.0.1", 0, metadata={}, api_keys=["right"]) as server:
        link = dataclasses.replace(
            settings.link,
            host="127.0.0.1",
            port=server.port,
            transport="quic",
            server_fingerprint=server.fingerprint,
            known_servers="",
            api_key=key,
        )
        with pytest.raises(flash_transport.AuthenticationFailed) as error:
            transport.open_policy(link)
        transport.open_policy(dataclasses.replace(link, api_key="right")).close()
    assert transport.needs_human(error.value)


def test_a_server_that_is_known_by_another_certificate_needs_a_human(settings, tmp_path):
    known = tmp_path / "known_servers"
    with flash_transport.QuicServer("127.0.0.1", 0, metadata={}) as server:
        link = dataclasses.replace(
            settings.link,
            host="127.0.0.1",
            port=server.port,
            transport="quic",
            server_fingerprint="",
            known_servers=str(known),
        )
        transport.open_policy(link).close()
        assert server.fingerprint in known.read_text()
        known.write_text(f"127.0.0.1:{server.port} sha256:{'0' * 64}\n")
        with pytest.raises(flash_transport.UntrustedServer) as error:
            transport.open_policy(link)
    assert transport.needs_human(error.value)
    assert f"line 1 of {known}" in transport.failure_message(error.value)


def test_through_a_relay_there_is_only_quic(parameters):
    relayed = {"server": "lab1", "relay": "meet.example", "relay_token_file": "/nowhere/token"}
    settings = settings_from_parameters(parameters | relayed)
    link = transport.resolve_server(settings.link)
    assert (link.host, link.server) == ("lab1", "lab1:5555")
    # there is no other way, so the token is looked for at once
    with pytest.raises(ValueError, match="relay token file /nowhere/token: No such file"):
        transport.open_policy(link)
