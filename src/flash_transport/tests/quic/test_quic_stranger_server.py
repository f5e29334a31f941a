"""docs/protocol.md is enough for a stranger: our client speaks to a server of aioquic.

The stranger knows the page and aioquic, and nothing of our Rust.
"""

import msgpack
import numpy as np
import pytest
from openpi_client import msgpack_numpy
from quic_peers import LONG
from quic_stranger import example
from quic_strangers_server import (
    PatientServer,
    RudeServer,
    StrangersServer,
    self_signed,
    strangers_server,
)

from flash_transport import (
    CodecError,
    Disconnected,
    FlashTransportPolicy,
    ServerError,
    UntrustedServer,
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificate")
    return directory, self_signed(directory)


def test_our_client_speaks_to_a_strangers_server(certificate):
    directory, fingerprint = certificate
    requests = []

    def answer(request):
        requests.append(request)
        return b"\x00" + msgpack_numpy.packb({"actions": np.arange(3.0)})

    with (
        strangers_server(directory, answer) as port,
        FlashTransportPolicy("127.0.0.1", port, server_fingerprint=fingerprint) as policy,
    ):
        assert policy.get_server_metadata() == {}
        answer = policy.infer({"state": np.arange(3, dtype=np.float32)}, timeout=LONG)
        assert answer["actions"].tolist() == [0.0, 1.0, 2.0]
        assert requests == [example("infer")]


def test_our_client_takes_the_first_actions_of_a_strangers_server(certificate):
    directory, _ = certificate
    requests = []

    class GivingServer(StrangersServer):
        def respond(self, stream, request):
            if request[0] == 0x01:
                metadata = b"\x00" + msgpack.packb({"supports": ["first_actions"]})
                self._quic.send_stream_data(stream, metadata, end_stream=True)
                self.transmit()
            else:
                super().respond(stream, request)

    def answer(request):
        requests.append(request)
        return example("first-infer-answer")

    with (
        strangers_server(directory, answer, kind=GivingServer) as port,
        FlashTransportPolicy("127.0.0.1", port) as policy,
    ):
        policy.get_server_metadata()
        future = policy.submit({}, LONG, first_actions=2)
        assert future.first_actions.result(LONG)["actions"].tolist() == [[0.0], [1.0]]
        assert future.result(LONG)["actions"].tolist() == [[0.0], [1.0], [2.0]]
        assert requests == [example("first-infer")]


def test_our_clients_first_request_leaves_before_its_hello_is_answered(certificate):
    directory, _ = certificate
    with (
        strangers_server(directory, lambda request: b"\x00\x80", kind=PatientServer) as port,
        FlashTransportPolicy("127.0.0.1", port) as policy,
    ):
        assert policy.infer({}, timeout=LONG) == {}
        assert policy.get_server_metadata() == {}


def test_what_was_lost_behind_an_unanswered_hello_is_not_sent_twice(certificate):
    directory, _ = certificate
    requests = []
    with (
        strangers_server(directory, requests.append, kind=RudeServer) as port,
        FlashTransportPolicy("127.0.0.1", port) as policy,
        pytest.raises(Disconnected, match="lost before the answer came"),
    ):
        policy.infer({}, timeout=LONG)
    assert requests == [b"\x02\x80"]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", CodecError, "it is empty"),
        (b"\x07\x80", CodecError, "it starts with byte 0x07"),
        (b"\x00", CodecError, "cut off"),
        (b"\x00\xc1", CodecError, "0xc1"),
        (b"\x00\x90", CodecError, "is no map but a list"),
        (b"\x01\xc1", CodecError, "0xc1"),
        (b"\x01\x80", ServerError, "internal: "),
        (b"\x01" + msgpack.packb({"code": "teapot", "message": "m"}), ServerError, "teapot: m"),
    ],
)
def test_a_strangers_bad_answer_is_an_error_and_costs_nothing_else(
    certificate, answer, error, message
):
    directory, _ = certificate
    answers = [answer, b"\x00\x80"]
    with (
        strangers_server(directory, lambda request: answers.pop(0)) as port,
        FlashTransportPolicy("127.0.0.1", port) as policy,
    ):
        with pytest.raises(error, match=message):
            policy.infer({}, timeout=LONG)
        assert policy.infer({}, timeout=LONG) == {}


def test_a_stranger_with_another_certificate_is_refused(certificate):
    directory, fingerprint = certificate
    with (
        strangers_server(directory, StrangersServer.answer) as port,
        pytest.raises(UntrustedServer, match=fingerprint),
    ):
        FlashTransportPolicy("127.0.0.1", port, server_fingerprint="f" * 64)


def test_a_server_of_another_protocol_is_named(certificate):
    directory, _ = certificate
    with (
        strangers_server(directory, StrangersServer.answer, alpn="h3") as port,
        pytest.raises(ConnectionError, match="speaks another protocol"),
    ):
        FlashTransportPolicy("127.0.0.1", port, connect_timeout=LONG)
