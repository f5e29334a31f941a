"""The robot node as a process, beside a simulated arm that a test can break and read.

The arm is the demo's: the same physics and the same controller, in this process, so that every
step of the controller's reference is seen. Its cameras are small pictures from a timer.
"""

from __future__ import annotations

import array
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import rclpy
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from flash_transport import QuicServer
from openpi_flash_msgs.msg import PolicyStatus
from sim_robot.node import SimRobotNode
from sim_robot.robot import CAMERAS, HOME, JOINTS, LOWER_LIMITS, UPPER_LIMITS, camera_topic
from sim_robot.ros_domain import reserved_ros_domain

WAIT = 60.0
CAMERA_PERIOD = 0.05
VELOCITY, ACCELERATION = 0.5, 5.0
PARAMETERS = {
    "transport": "quic",
    "action_kind": "position",
    "prompt": "move",
    "dry_run": False,
    "cameras": list(CAMERAS),
    **{f"camera.{name}.topic": camera_topic(name) for name in CAMERAS},
    **{f"camera.{name}.key": f"observation/{name}_image" for name in CAMERAS},
    # these cameras have no noise
    "max_frozen_time": 0.0,
    "joints": list(JOINTS),
    "state_key": "observation/state",
    "controllers": ["arm_controller"],
    "max_start_delta": [0.5],
    "max_velocity": [VELOCITY],
    "max_acceleration": [ACCELERATION],
    "max_tracking_error": [0.08] * 6 + [0.0],
    # this process does more than a controller: it may hear of a command late
    "min_lead_time": 0.1,
    "position_lower": list(LOWER_LIMITS),
    "position_upper": list(UPPER_LIMITS),
}


@dataclass
class Reference:
    """What the controller wanted, at every step of the physics."""

    times: list[float] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    velocities: list[np.ndarray] = field(default_factory=list)

    def since(self, begin, end=math.inf):
        """Times, positions, velocities [T, 7] between two moments, and accelerations [T - 1, 7]."""
        times = np.array(self.times)
        kept = (times >= begin) & (times <= end)
        positions = np.array(self.positions)[kept]
        # how fast the reference really moves, whatever the controller says of it
        gaps = np.diff(times[kept])[:, np.newaxis]
        velocities = np.diff(positions, axis=0) / gaps
        return times[kept], positions, velocities, np.diff(velocities, axis=0) / gaps[1:]


class BreakableArm(SimRobotNode):
    """The simulated robot, with faults.

    Attributes:
        lateness: when each trajectory came, and how many seconds after its stamp.
        brakes: the arm stands still, whatever its controller wants; the controller goes on.
        delays: seconds that each trajectory is late, or None; they keep their order.
        blind: cameras that send nothing.
    """

    def __init__(self, **arguments):
        super().__init__(camera_hz=0.0, **arguments)
        self.reference, self.measured = Reference(), Reference()
        self.lock = threading.Lock()
        self.brakes = False
        self.lateness = []
        self.delays = None
        self.blind = set()
        self.waiting = []
        self._pictures = {
            name: self.create_publisher(Image, camera_topic(name), 2) for name in CAMERAS
        }

    def start(self):
        super().start()
        self.create_timer(CAMERA_PERIOD, self._show)

    def _show(self):
        for name, publisher in self._pictures.items():
            if name not in self.blind:
                image = Image(height=24, width=32, step=96, encoding="rgb8")
                image.data = array.array("B", bytes(24 * 96))
                image.header.stamp = self.get_clock().now().to_msg()
                publisher.publish(image)

    def step(self):
        moment = self.time
        while self.waiting and self.waiting[0][0] <= moment:
            super().receive(self.waiting.pop(0)[1], moment)
        desired = self.follower.desired(moment)
        self.plant.command(desired.positions, desired.velocities)
        self.plant.step(brakes=self.brakes)
        with self.lock:
            for track, positions, velocities in (
                (self.reference, desired.positions, desired.velocities),
                (self.measured, self.plant.positions, self.plant.velocities),
            ):
                track.times.append(moment)
                track.positions.append(positions)
                track.velocities.append(velocities)

    def receive(self, trajectory, now):
        self.lateness.append((now, now - trajectory.start))
        if self.delays is None:
            super().receive(trajectory, now)
            return
        late = now + next(self.delays)
        if self.waiting:
            late = max(late, self.waiting[-1][0])
        self.waiting.append((late, trajectory))


class Server:
    """A real QUIC server with a policy that a test writes: observation -> actions [H, 7]."""

    def __init__(self, policy, *, rate_hz=25.0, horizon=50, think=0.0, port=0, **metadata):
        self.policy, self.think = policy, think
        metadata |= {
            "action_horizon": horizon,
            "action_dim": len(JOINTS),
            "action_rate_hz": rate_hz,
            "action_names": list(JOINTS),
            "supports": [],
        }
        self.quic = QuicServer("127.0.0.1", port, metadata=metadata)
        self.port = self.quic.port
        self.answered = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while (request := self.quic.next_request()) is not None:
            if request.kind == "reset":
                request.respond({})
                continue
            time.sleep(self.think)  # what a model takes
            request.respond({"actions": self.policy(request.observation["observation/state"])})
            self.answered += 1

    def close(self):
        self.quic.close()
        self._thread.join(10)


class Rig:
    """Arm, server and node; the arm's time is `now`, in seconds.

    Args:
        namespace: of the node.
        remappings: of the arm's names, for a second arm.
    """

    def __init__(
        self,
        domain,
        directory,
        server,
        controller_parameters=None,
        *,
        namespace="/openpi",
        remappings=(),
    ):
        self.domain, self.directory, self.server = domain, directory, server
        self.namespace = namespace
        self.context = rclpy.Context()
        arguments = ["--ros-args", *(word for rule in remappings for word in ("-r", rule))]
        rclpy.init(args=arguments, context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.arm = BreakableArm(context=self.context, controller_parameters=controller_parameters)
        self.statuses = []
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.watcher = rclpy.create_node("watcher", context=self.context)
        topic = f"{namespace}/status"
        self.watcher.create_subscription(PolicyStatus, topic, self._on_status, latched)
        self.processes = []
        for node in (self.arm, self.arm.controller, self.watcher):
            self.executor.add_node(node)
        self.arm.start()
        self._turning = True
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self):
        while self._turning:
            self.executor.spin_once(timeout_sec=0.05)

    def _on_status(self, status):
        self.statuses.append((self.now, status))

    @property
    def now(self):
        return self.arm.time

    def start_node(self, *, name="client_node", **changes):
        """Start the node as a process."""
        given = PARAMETERS | {"server": f"127.0.0.1:{self.server.port}"} | changes
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": given}}))
        log = (self.directory / f"{name}.log").open("w")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "openpi_flash_client_node"),
                *("--ros-args", "--params-file", str(path), "-r", f"client_node:__node:={name}"),
                *("-r", f"client_node:__ns:={self.namespace}"),
            ],
            env=os.environ
            | {"ROS_DOMAIN_ID": str(self.domain), "ROS_HOME": str(self.directory / "ros_home")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.processes.append(process)
        return process

    def call(self, service, kind=Trigger, node="client_node", **fields):
        """Call a service of the node."""
        name = f"{self.namespace}/{node}/{service}"
        client = self.on_ros(lambda: self.watcher.create_client(kind, name))
        self.until(client.service_is_ready, f"service {service}")
        future = self.on_ros(lambda: client.call_async(kind.Request(**fields)))
        self.until(future.done, f"an answer of {service}")
        return future.result()

    def on_ros(self, work):
        """Run something in the thread that turns the executor, which alone makes entities."""
        task = self.executor.create_task(work)
        self.until(task.done, "a task of the executor")
        return task.result()

    def bring_up(self, node):
        """Configure and activate a node that was started without autostart."""
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            answer = self.call(
                "change_state", ChangeState, node=node, transition=Transition(id=transition)
            )
            assert answer.success, self.log()

    def until(self, condition, what, timeout=WAIT):
        """Wait until something is true; its value."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what}; log:\n{self.log()}"
            time.sleep(0.002)
        return value

    def until_status(self, state, text="", since=0.0):
        """Wait for a status after a moment; the moment at which it came, and the status.

        No state means any.
        """

        def found():
            return next(
                (
                    (at, status)
                    for at, status in list(self.statuses)
                    if at >= since and state in (None, status.state) and text in status.message
                ),
                None,
            )

        return self.until(found, f"state {state} with {text!r}, last {self.statuses[-1:]}")

    def until_moving(self, joint=0, speed=0.99 * VELOCITY):
        """Wait until the controller wants a joint to move at a speed; the moment."""

        def moves():
            with self.arm.lock:
                newest = self.arm.reference.velocities[-1:]
            return newest and abs(newest[0][joint]) >= speed

        self.until(moves, f"{JOINTS[joint]} at {speed} rad/s")
        return self.now

    def until_standing(self, seconds=0.3):
        """Wait until the controller has not moved for a time."""

        def stands():
            with self.arm.lock:
                tail = np.array(self.arm.reference.velocities[-int(seconds / 0.002) :])
            return not np.abs(tail).max() > 1e-9

        self.until(stands, "the arm standing still")
        return self.now

    def wait(self, seconds):
        """Let the arm's time pass."""
        end = self.now + seconds
        self.until(lambda: self.now >= end, f"{seconds} s of the arm's time")

    def reference(self, begin, end=math.inf):
        with self.arm.lock:
            return self.arm.reference.since(begin, end)

    def measured(self, begin, end=math.inf):
        with self.arm.lock:
            return self.arm.measured.since(begin, end)

    def log(self):
        return "\n".join(path.read_text() for path in self.directory.glob("*.log"))

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._turning = False
        self._thread.join()  # from here on one thread alone uses the nodes
        for node in (self.watcher, self.arm.controller, self.arm):
            self.executor.remove_node(node)
        self.executor.shutdown()
        self.watcher.destroy_node()
        self.arm.close()
        rclpy.shutdown(context=self.context)
        self.server.close()


@contextlib.contextmanager
def rig(directory, policy, *, controller_parameters=None, **server):
    """Arm and server, in a ROS domain of their own; the test starts the node."""
    with reserved_ros_domain() as domain:
        made = Rig(domain, directory, Server(policy, **server), controller_parameters)
        try:
            yield made
        finally:
            made.close()


def swing(speed=VELOCITY, joint=0, bound=1.5, step=0.04, horizon=50):
    """A policy that moves a joint at a speed, back and forth between bounds; the rest stay."""
    direction = [1.0]

    def policy(state):
        here = state[joint]
        if here > bound:
            direction[0] = -1.0
        elif here < -bound:
            direction[0] = 1.0
        actions = np.tile(np.asarray(HOME), (horizon, 1))
        actions[:, joint] = here + direction[0] * speed * step * np.arange(1, horizon + 1)
        return actions.astype(np.float32)

    return policy
