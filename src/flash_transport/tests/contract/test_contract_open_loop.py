"""Any client of a policy server: one answer for several steps."""

import numpy as np
import pytest
from quic_peers import LONG

from flash_transport import CallStats

HORIZON = 4
CHUNKS = {"action_horizon": HORIZON, "supports": ["deadline_ms"]}


class Chunks:
    """A policy that answers with numbered chunks."""

    def __init__(self):
        self.asked = []

    def __call__(self, request):
        self.asked.append(request.observation)
        number = len(self.asked)
        actions = np.arange(HORIZON * 2, dtype=np.float32).reshape(HORIZON, 2) + 100 * number
        request.respond({"actions": actions, "chunk": number})


def test_whole_chunks_are_the_default(serving):
    with serving(Chunks(), CHUNKS).connect() as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (HORIZON, 2)


def test_an_open_loop_asks_once_for_several_steps(serving):
    chunks = Chunks()
    with serving(chunks, CHUNKS).connect(open_loop_horizon=3) as policy:
        answers = [policy.infer({}, timeout=LONG) for _ in range(4)]
        assert [answer["actions"].tolist() for answer in answers] == [
            [100, 101],
            [102, 103],
            [104, 105],
            [200, 201],
        ]
        assert [answer["chunk"] for answer in answers] == [1, 1, 1, 2]
        assert len(chunks.asked) == 2


def test_steps_of_an_open_loop_cost_nothing_and_come_by_every_way(serving):
    with serving(Chunks(), CHUNKS).connect(open_loop_horizon=4) as policy:
        first = policy.submit({}, timeout=LONG)
        assert first.result(LONG)["actions"].tolist() == [100, 101]
        assert first.stats.bytes_up > 0
        answer, stats = policy.infer_with_stats({}, timeout=LONG)
        assert answer["actions"].tolist() == [102, 103]
        assert stats == CallStats(0.0, 0.0, 0, 0, 0)
        third = policy.submit({})
        assert third.done()
        assert third.result()["actions"].tolist() == [104, 105]
        assert policy.infer({})["actions"].tolist() == [106, 107]


def test_a_reset_forgets_the_chunk(serving):
    chunks = Chunks()
    with serving(chunks, CHUNKS).connect(open_loop_horizon=HORIZON) as policy:
        policy.infer({}, timeout=LONG)
        policy.reset()
        assert policy.infer({}, timeout=LONG)["chunk"] >= 2


def test_the_environment_sets_the_horizon_and_the_program_has_the_last_word(serving, monkeypatch):
    monkeypatch.setenv("OPENPI_OPEN_LOOP_HORIZON", "2")
    endpoint = serving(Chunks(), CHUNKS)
    with endpoint.connect() as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (2,)
    with endpoint.connect(open_loop_horizon=0) as policy:
        assert policy.infer({}, timeout=LONG)["actions"].shape == (HORIZON, 2)


def test_a_horizon_that_is_no_number_is_refused_before_connecting(serving, monkeypatch):
    endpoint = serving(Chunks(), CHUNKS)
    endpoint.stop()
    with pytest.raises(ValueError, match="open_loop_horizon must be a whole number of steps"):
        endpoint.connect(open_loop_horizon=-1)
    monkeypatch.setenv("OPENPI_OPEN_LOOP_HORIZON", "many")
    with pytest.raises(ValueError, match="OPENPI_OPEN_LOOP_HORIZON must be .* got 'many'"):
        endpoint.connect()
