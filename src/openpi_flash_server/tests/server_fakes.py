"""Policies, planners and requests whose timing a test decides, by events and never by sleeping."""

from __future__ import annotations

import threading

import numpy as np

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import (
    DEFAULT_CONTROLS,
    ActionResult,
    ImageSpec,
    PolicySpec,
)
from openpi_flash_models.robots import ActionColumn
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.event_log import EventLog
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.work import RequestClass, RequestMode, Work

WAIT = 20.0
"""s that a test waits for something that should happen at once."""

SPEC = PolicySpec(
    model="pi05",
    robot="two_joints",
    action_horizon=3,
    action_dim=2,
    action_rate_hz=25.0,
    actions=(ActionColumn("shoulder"), ActionColumn("elbow", "velocity", "rad/s")),
    image_specs=(ImageSpec(path=("observation/image",), shape=(4, 4, 3)),),
    metadata={"reset_pose": [0.5, -0.5]},
)


class FakePolicy:
    """Answers with the observation's state in every step; `gate` holds it until it is opened."""

    spec = SPEC

    def __init__(self, *, gate=None):
        self.gate = gate
        self.entered = threading.Semaphore(0)
        self.seen = []
        self.controls = []
        self.threads = set()
        self.running = 0
        self.most_running = 0
        self.warmed = False

    def warm_up(self):
        self.warmed = True

    def infer(self, observation, controls=None):
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            self.seen.append(dict(observation))
            self.controls.append(controls)
            self.threads.add(threading.current_thread().name)
            self.entered.release()
            if self.gate is not None:
                assert self.gate.wait(WAIT)
            if "explode" in observation:
                raise RuntimeError(f"the model exploded: {observation['explode']}")
            if "state" not in observation:
                raise ObservationError("state", "missing, expected float32 [2]")
            state = np.asarray(observation["state"])
            if state.shape != (2,):
                raise ObservationError("state", f"expected shape [2], got {list(state.shape)}")
            return ActionResult(actions=np.tile(state.astype(np.float32), (3, 1)), infer_ms=1.25)
        finally:
            self.running -= 1


class FakeBatchPolicy(FakePolicy):
    """Answers up to `max_batch` observations in one call, and remembers the sizes of its calls."""

    max_batch = 8

    def __init__(self, *, gate=None):
        super().__init__(gate=gate)
        self.sizes = []

    def infer(self, observation, controls=DEFAULT_CONTROLS):
        (answer,) = self.infer_batch([(observation, controls)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def infer_batch(self, requests):
        self.sizes.append(len(requests))
        answers = []
        for observation, controls in requests:
            try:
                answers.append(super().infer(observation, controls))
            except ObservationError as error:
                answers.append(error)
        return answers


class FakeSubtask:
    def __init__(self, text, ms=7.5):
        self.text = text
        self.ms = ms


class FakePlanner:
    """Answers "step N of <prompt>"."""

    checkpoint = None

    def __init__(self, *, gate=None):
        self.gate = gate
        self.entered = threading.Semaphore(0)
        self.prompts = []
        self.formats = []
        self.answers = []
        self.running = 0
        self.most_running = 0

    def warm_up(self):
        pass

    def plan(self, observation, *, prompt, prompt_format=None):
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            self.prompts.append(prompt)
            self.formats.append(prompt_format)
            self.entered.release()
            if self.gate is not None:
                assert self.gate.wait(WAIT)
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, BaseException):
                    raise answer
                return FakeSubtask(answer)
            return FakeSubtask(f"step {len(self.prompts)} of {prompt}")
        finally:
            self.running -= 1


class Inbox:
    """Takes the answer of one request."""

    def __init__(self):
        self._answered = threading.Event()
        self.answers = []

    def __call__(self, answer):
        self.answers.append(answer)
        self._answered.set()

    def wait(self):
        assert self._answered.wait(WAIT), "no answer came"
        assert len(self.answers) == 1
        return self.answers[0]


CLIENT = Client("10.0.0.9:50000#1", "10.0.0.9")


def logged_slot(name="action", **options):
    """A slot whose events are logged, as the server's are."""
    slot = Slot(name, **options)
    slot.subscribe(EventLog(name))
    return slot


def open_with(slot, handler, gate=None):
    """Opens a slot with a handler on a thread of its own."""
    slot.open(OwnThread(f"slot-{slot.name}", handler, clock=slot.clock), gate)


def make_work(observation=None, *, session="robot", mode=RequestMode.DEFAULT, deadline_ms=None):
    return Work(
        observation={"state": np.zeros(2)} if observation is None else observation,
        mode=mode,
        controls=DEFAULT_CONTROLS,
        observation_stamp=None,
        session=session,
        request_class=RequestClass.ROBOT,
        deadline_ms=deadline_ms,
    )
