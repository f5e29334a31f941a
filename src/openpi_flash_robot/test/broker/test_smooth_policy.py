"""smooth_policy.py: one action per call from a real server, without waiting for it."""

import threading
import time

import numpy as np
import pytest
from scripted_server import ScriptedServer, sweep

from openpi_flash_robot.broker.smooth_policy import PolicyError, SmoothPolicy
from openpi_flash_robot.settings.parameter_kinds import ParameterError

pytestmark = pytest.mark.filterwarnings("ignore:server 127.0.0.1")


@pytest.fixture
def server():
    server = ScriptedServer(sweep())
    yield server
    server.stop()


@pytest.fixture
def make(server):
    made = []

    def build(**changes):
        policy = SmoothPolicy("127.0.0.1", server.port, **({"action_kind": "position"} | changes))
        made.append(policy)
        return policy

    yield build
    for policy in made:
        policy.close()


def observed(positions=(0.1, 0.2, 0.5)):
    return {"observation/state": np.asarray(positions, np.float32), "prompt": "stack"}


def loop(policy, until, *, timeout=20.0):
    """Infer at 50 Hz until something is true of an answer; all answers."""
    answers, positions = [], (0.1, 0.2, 0.5)
    deadline = time.monotonic() + timeout
    while True:
        assert time.monotonic() < deadline, answers[-3:]
        answers.append(policy.infer(observed(positions)))
        positions = answers[-1]["actions"]
        if until(answers):
            return answers
        time.sleep(0.02)


def test_each_call_returns_one_action_and_the_next_chunk_is_asked_for_meanwhile(make, server):
    policy = make()
    answers = loop(policy, lambda _: len(server.requests) > 3)
    actions = np.array([answer["actions"] for answer in answers])
    assert actions[0] == pytest.approx([0.1, 0.2, 0.5], abs=0.02)
    assert actions[-1, 0] > 0.3
    assert {answer["holding"] for answer in answers} == {""}
    assert policy.get_server_metadata()["action_dim"] == 3


def test_a_server_that_answers_slowly_does_not_delay_a_call(make, server):
    policy = make(request_timeout=60.0)
    loop(policy, lambda answers: len(answers) > 20)
    server.answering.clear()
    took = []
    for _ in range(60):
        begin = time.perf_counter()
        policy.infer(observed())
        took.append(time.perf_counter() - begin)
        time.sleep(0.005)
    server.answering.set()
    assert max(took) < 5.0  # waiting for the answer would take ten times as long


def test_without_an_answer_it_stands_and_says_why_and_goes_on_later(make, server):
    policy = make(request_timeout=0.2)
    loop(policy, lambda answers: len(answers) > 20)
    server.stop()
    answers = loop(policy, lambda answers: len(answers) > 60 and answers[-1]["holding"])
    assert np.array_equal(answers[-1]["actions"], policy.infer(observed())["actions"])
    server.start()
    loop(policy, lambda answers: not answers[-1]["holding"])


def test_on_request_it_raises_instead_of_standing(make, server):
    policy = make(request_timeout=0.2, on_stale="raise")
    loop(policy, lambda answers: len(answers) > 20)
    server.stop()
    with pytest.raises(PolicyError):
        loop(policy, lambda _: False)


def test_a_request_cannot_be_changed_after_it_was_sent(make, server):
    policy = make()
    server.answering.clear()
    observation = observed()
    finger = threading.Timer(
        0.3, lambda: (observation["observation/state"].fill(9.0), server.answering.set())
    )
    finger.start()
    policy.infer(observation)
    assert server.requests[0]["observation/state"][0] == pytest.approx(0.1)


def test_a_reset_is_told_to_the_server_and_the_next_call_waits_for_a_new_chunk(make, server):
    policy = make()
    loop(policy, lambda answers: len(answers) > 20)
    policy.reset()
    assert policy.infer(observed((1.0, 0.2, 0.5)))["actions"][0] == pytest.approx(1.0)
    assert server.resets == 1


def test_what_else_the_server_says_comes_with_each_action(make, server):
    server.answer = lambda observation: np.tile(observation["observation/state"], (50, 1))
    policy = make()
    answer = policy.infer(observed())
    assert set(answer) == {"actions", "holding"}


def test_a_server_that_does_not_say_what_its_actions_are_is_refused_with_what_to_pass(make):
    with pytest.raises(PolicyError, match="action_kind"):
        make(action_kind="").infer(observed())


def test_without_a_server_the_first_call_ends_after_its_timeout(make, server):
    server.stop()
    with pytest.raises(PolicyError, match=r"within 0\.3 s"):
        make(start_timeout=0.3).infer(observed())


def test_a_server_that_refuses_is_named_when_the_first_call_ends(make, server):
    server.answer = lambda _: ("internal", "out of memory")
    with pytest.raises(PolicyError, match="out of memory"):
        make(start_timeout=1.0).infer(observed())


def test_a_server_with_other_actions_is_not_followed(make, server):
    policy = make()
    loop(policy, lambda answers: len(answers) > 20)
    server.stop()
    server.metadata["action_rate_hz"] = 50.0
    server.start()
    answers = loop(policy, lambda answers: "have changed" in answers[-1]["holding"])
    assert answers[-1]["actions"] == pytest.approx(policy.infer(observed())["actions"], abs=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": ["scene"]}, "no parameter cameras"),
        ({"max_velocity": [-1.0]}, "max_velocity must be at least"),
        ({"chunk_method": "best"}, "must be one of latest"),
    ],
)
def test_parameters_are_checked_by_the_nodes_table(make, changes, message):
    with pytest.raises(ParameterError, match=message):
        make(**changes)


def test_what_to_do_when_stale_is_one_of_two(make):
    with pytest.raises(ValueError, match="on_stale"):
        make(on_stale="stop")


def test_openpis_own_runtime_drives_a_robot_by_it(make, server):
    pytest.importorskip("openpi_client", reason="openpi-client is not installed")
    from openpi_client.runtime.agents.policy_agent import PolicyAgent
    from openpi_client.runtime.environment import Environment
    from openpi_client.runtime.runtime import Runtime

    class Arm(Environment):
        farthest = 0.0

        def reset(self):
            self.positions, self.steps = np.array([0.1, 0.2, 0.5]), 0

        def is_episode_complete(self):
            return self.steps >= 75

        def get_observation(self):
            return observed(self.positions)

        def apply_action(self, action):
            self.positions, self.steps = action["actions"], self.steps + 1
            self.farthest = max(self.farthest, self.positions[0])

    arm = Arm()
    Runtime(arm, PolicyAgent(make()), subscribers=[], max_hz=50, num_episodes=2).run()
    assert arm.farthest > 0.3
    assert server.resets >= 1
