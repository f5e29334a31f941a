"""Any client of a policy server: a server that goes, and perhaps comes back."""

import contextlib

import pytest
from contract_handlers import SHORT, echo
from quic_peers import LONG

from flash_transport import Disconnected, Timeout


def test_a_server_restarted_between_requests_costs_at_most_one(serving, transport):
    address = transport.free_address()
    endpoint = serving(echo, address=address)
    with endpoint.connect() as policy:
        policy.infer({}, timeout=LONG)
        endpoint.stop()
        serving(lambda request: request.respond({"again": True}), {"model": "new"}, address)
        answers = []
        while not answers:
            with contextlib.suppress(Disconnected):
                answers.append(policy.infer_with_stats({}, timeout=LONG))
        answer, stats = answers[0]
        assert answer == {"again": True}
        assert stats.connect_attempts >= (0 if transport.connects_ahead else 1)
        assert policy.get_server_metadata() == {"model": "new"}
        assert policy.submit({}, timeout=LONG).result(LONG) == {"again": True}


def test_a_server_that_is_gone_takes_no_longer_than_a_request_may(serving):
    endpoint = serving(echo)
    with endpoint.connect() as policy:
        endpoint.stop()
        future = policy.submit({}, timeout=SHORT)
        for ask in (lambda: future.result(LONG), lambda: policy.infer({}, timeout=SHORT)):
            with pytest.raises((Disconnected, Timeout)):
                ask()
