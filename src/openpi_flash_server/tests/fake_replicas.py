"""Replicas in the test's own process, which a test starts, holds and kills by events."""

import itertools
import threading

from server_fakes import WAIT

from openpi_flash_server.replicas.engine import Description, LoadFailed, ReplicaLost
from openpi_flash_server.replicas.policy_process import NotLoaded, PolicyProcess


class FakeReplica:
    """A policy on the caller's thread; `call` ends early when the replica is killed."""

    def __init__(self, number, policy, lost):
        self.number = number
        self.policy = policy
        self.process = PolicyProcess()
        self.calls = 0
        self.resets = 0
        self.is_stopped = False
        self.lost = lost
        self._killed = threading.Event()
        self._one_at_a_time = threading.Lock()

    @property
    def is_killed(self):
        return self._killed.is_set()

    def call(self, requests):
        self.calls += 1
        answers = []

        def run():
            with self._one_at_a_time:
                answers.append(self.process.infer(requests))
            ended.set()

        ended = threading.Event()
        threading.Thread(target=run, daemon=True).start()
        self._killed_or(ended)
        if not answers:
            raise ReplicaLost("killed")
        return answers[0]

    def _killed_or(self, ended):
        for _ in range(int(WAIT * 1000)):
            if ended.wait(0.001) or self._killed.is_set():
                return
        raise AssertionError("the call neither ended nor was killed")

    def reset(self):
        self.resets += 1

    def stop(self):
        self.is_stopped = True

    def kill(self):
        self._killed.set()

    def die(self, reason="killed"):
        """Ends as a process does that somebody else kills."""
        self.kill()
        self.lost(ReplicaLost(reason))


class FakeEngine:
    """Starts replicas of the policies that `make_policy(number)` makes; at once, if `is_prompt`."""

    def __init__(self, make_policy, *, is_prompt=True, keeps_state=False):
        self.make_policy = make_policy
        self.is_prompt = is_prompt
        self.keeps_state = keeps_state
        self.replicas = []
        self.is_closed = False
        self._numbers = itertools.count(1)
        self._started = threading.Condition()
        self._due = []

    def start(self, ready, lost):
        number = next(self._numbers)
        replica = FakeReplica(number, None, lost)
        self.replicas.append(replica)

        def come_up():
            outcome = replica.process.load(lambda: self.make_policy(number))
            replica.policy = replica.process._policy
            if isinstance(outcome, NotLoaded):
                lost(LoadFailed(outcome.cause))
            else:
                ready(Description(outcome.spec, outcome.max_batch, self.keeps_state))

        with self._started:
            self._due.append(come_up)
            self._started.notify_all()
        if self.is_prompt:
            threading.Thread(target=self.come_up, daemon=True).start()
        return replica

    def come_up(self):
        """The next replica that has started gets ready."""
        with self._started:
            assert self._started.wait_for(lambda: self._due, WAIT)
            due = self._due.pop(0)
        due()

    def close(self):
        self.is_closed = True
