"""A robot and a link around a bridge, in virtual time, and what its effects are asked."""

import numpy as np
from played_curves import Controller, window_of

from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.effects import PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import LinkUp, RequestCost, RequestDone

MS = 1_000_000
JOINTS = ("shoulder", "elbow", "gripper")
PERIOD = 20 * MS
METADATA = {
    "action_horizon": 50,
    "action_dim": 3,
    "action_rate_hz": 25.0,
    "action_names": list(JOINTS),
    "supports": [],
}
MEASURED = [0.1, 0.2, 0.5]
COST = RequestCost(serialize_s=0.002, bytes_up=452_000, bytes_down=7_000)


class World:
    """A robot and a link around a bridge, with a clock that only tests move."""

    def __init__(self, settings):
        self.bridge = Bridge(settings, fingerprint=hash)
        self.bridge.command_topics(0, [])
        self.now = 1_000 * MS
        self.effects = []
        self.controller = Controller(MEASURED)
        self.offset = np.zeros(len(MEASURED))
        self.stuck_at = None
        self.silent = set()
        self.frozen = set()

    @property
    def measured(self):
        """Where the joints are: where the controller wants them, unless a test says otherwise."""
        if self.stuck_at is not None:
            return list(self.stuck_at)
        return list(self.controller.reference(self.now).positions + self.offset)

    @property
    def speed(self):
        """How fast the controller wants the fastest joint to be, rad/s."""
        return float(np.abs(self.controller.reference(self.now).velocities).max())

    def pass_time(self, milliseconds, *, until=None):
        """Let periods go by, with cameras and joints speaking, until an effect of a kind comes."""
        for _ in range(milliseconds * MS // PERIOD):
            self.now += PERIOD
            for camera in ("scene", "wrist"):
                if camera not in self.silent:
                    image = camera if camera in self.frozen else f"{camera}@{self.now}"
                    self.bridge.add_frame(camera, self.now - 5 * MS, image)
            if "joints" not in self.silent:
                self.bridge.add_joints(self.now - MS, JOINTS, self.measured)
            self.bridge.tick(self.now)
            found = self.collect(until) if until else self.collect()
            if until and found:
                return found[0]
        return None

    def collect(self, kind=object):
        new = self.bridge.take_effects()
        self.effects += new
        window = window_of(of(new, PublishTrajectory)[-2:], len(JOINTS))
        if window is not None:
            self.controller.receive(window, self.now)
        return [effect for effect in new if isinstance(effect, kind)]

    def event(self, event):
        self.bridge.link_event(self.now, event)
        return self.collect()

    def up(self, **changes):
        return self.event(LinkUp(METADATA | changes))

    def answer(self, request, actions=None, *, latency_ms=40, **more):
        """Let the latency pass and deliver the answer; everything that happened meanwhile."""
        before = len(self.effects)
        self.pass_time(latency_ms)
        result = {"actions": still() if actions is None else actions} | more
        self.event(RequestDone(request.request_id, result, 0.003, latency_ms / 1e3, COST))
        return self.effects[before:]

    def answer_anew(self, actions=None):
        """Answer the request in flight, which was observed before the robot held, and the next."""
        self.answer(self.all(SendRequest)[-1], actions)
        self.answer(self.pass_time(200, until=SendRequest), actions)

    def run(self):
        """Bring it to play its first chunk."""
        self.bridge.activate(self.now)
        self.up()
        request = self.pass_time(100, until=SendRequest)
        self.answer(request)
        assert self.status.state is State.RUNNING
        return request

    @property
    def status(self):
        return self.bridge.status(self.now)

    def all(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]


def still(steps=50):
    """A chunk that stays where the robot is."""
    return np.tile(np.asarray(MEASURED), (steps, 1))


def of(effects, kind):
    return [effect for effect in effects if isinstance(effect, kind)]


def moving():
    """A chunk that moves the shoulder by 0.8 rad in two seconds."""
    return still() + np.linspace(0, 0.8, 50)[:, np.newaxis] * [1, 0, 0]


def comes_to_rest(world, within_ms=300):
    """Let time pass; whether the controller was told to stand, and then nothing more."""
    world.pass_time(within_ms)
    before = len(world.all(PublishTrajectory))
    stood = world.controller.reference(world.now).positions
    world.pass_time(200)
    return (
        world.speed == 0.0
        and len(world.all(PublishTrajectory)) == before
        and np.array_equal(world.controller.reference(world.now).positions, stood)
    )
