"""What a server's error, or an answer that is none, costs over WebSocket."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import numpy as np
import pytest
from openpi_server import choose_ours, serving

from flash_transport import (
    AuthenticationFailed,
    CodecError,
    ServerError,
    Superseded,
    WebsocketPolicy,
)


def test_a_server_error_is_an_error_with_its_text_and_the_next_request_goes_on():
    def answer(observation, number):
        return "Traceback: KeyError 'state'" if observation["n"] == 1 else {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(ServerError) as caught:
            policy.infer({"n": 1})
        assert caught.value.code == "internal"
        assert caught.value.message == "Traceback: KeyError 'state'"
        # at once: the server has hung up, or is about to
        assert policy.infer({"n": 2}) == {"number": 1}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("bad_request", ServerError),
        ("internal", ServerError),
        ("superseded", Superseded),
        ("unauthenticated", AuthenticationFailed),
    ],
)
def test_an_error_of_our_server_has_its_type_and_keeps_the_connection(code, error):
    def answer(observation, number):
        if observation["n"] == 1:
            return {"error": {"code": code, "message": "no image"}}
        return {"number": number}

    with serving(answer, select_subprotocol=choose_ours) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(error, match="no image") as caught:
                policy.infer({"n": 1})
            if error is ServerError:
                assert caught.value.code == code
            assert policy.infer({"n": 2}) == {"number": 0}


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"\xc1", "0xc1"), (b"\x91\x01", "message is list, expected a map"), (b"", "cut off")],
)
def test_an_answer_that_cannot_be_read_costs_no_more_than_itself(answer, message):
    with serving(lambda o, number: answer if o["n"] == 1 else {"number": number}) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(CodecError, match=message):
                policy.infer({"n": 1})
            assert policy.infer({"n": 2}) == {"number": 0}


def test_an_observation_that_cannot_travel_costs_nothing(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(CodecError, match=r"at \['image'\]: dtype complex128"):
            policy.infer({"image": np.zeros(3, complex)})
        assert policy.infer({"n": 2}) == {"n": 2}
        assert len(server.connections) == 1
