"""Begins episodes of the simulated robot and its node over ROS, and hears how they end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import State as LifecycleState
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from openpi_flash_msgs.msg import ActionChunk, PolicyStatus
from openpi_flash_msgs.srv import SetPrompt
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_training.demonstrations.pictures import Image
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.film import FPS, EpisodeCamera
from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.through_ros.course import Course
from sim_robot.episode import EpisodeOrder
from sim_robot.robot import CAMERAS, SCENE_TOPIC, camera_topic
from sim_robot.scene_report import SceneReport, parse_report

ANSWER_S = 90.0
"""How long a process may take to start, or to answer."""

ASK_AGAIN_S = 15.0
"""After which a service is asked again: a server that has not discovered the asking node when it
answers loses its answer."""

DISCARD_S = 5.0
"""How long an episode that was broken off has to be removed."""

PICTURES = 2
"""Of each camera that show a new start before the robot may look."""

OF_THE_POLICY = frozenset(
    {Cause.BAD_CHUNK, Cause.EXHAUSTED, Cause.LATE, Cause.REFUSED, Cause.START_JUMP, Cause.TRACKING}
)
"""Why a robot stands that are the policy's failures in an episode; others end the evaluation."""


class Referee:
    """A ROS node beside the simulated robot and the policy's node. For one thread.

    Args:
        domain: of ROS.
        node_name: of the policy's node, with its namespace.
        check: called while it waits; raises if a process has ended.
        on_report: told what is true in the scene.
        is_recorded: whether the node records every episode, marked with how it ended.
    """

    def __init__(
        self,
        domain: int,
        node_name: str,
        *,
        check: Callable[[], object],
        on_report: Callable[[SceneReport], object] = lambda _: None,
        is_recorded: bool = False,
    ) -> None:
        self._check, self._on_report = check, on_report
        self._report: SceneReport | None = None
        self._reported_at = 0.0
        self._status: PolicyStatus | None = None
        self._course: Course | None = None
        self._is_active = self._is_recording = False
        self._is_recorded = is_recorded
        self._context = Context()
        rclpy.init(
            context=self._context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = rclpy.create_node("referee", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        namespace = node_name.rpartition("/")[0]
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        listen = self._node.create_subscription
        listen(String, SCENE_TOPIC, self._hear_report, 200)
        listen(PolicyStatus, f"{namespace}/status", self._hear_status, latched)
        listen(ActionChunk, f"{namespace}/action_chunk", self._hear_chunk, 50)
        client = self._node.create_client
        self._place = client(SetParameters, "/sim_robot/set_parameters")
        self._change = client(ChangeState, f"{node_name}/change_state")
        self._get_state = client(GetState, f"{node_name}/get_state")
        self._set_prompt = client(SetPrompt, f"{node_name}/set_prompt")
        self._set_parameters = client(SetParameters, f"{node_name}/set_parameters")
        if is_recorded:
            self._start, self._stop, self._discard = (
                client(Trigger, f"{node_name}/record/{what}")
                for what in ("start", "stop", "discard")
            )
            self._mark = client(SetBool, f"{node_name}/record/mark")

    def configure(self) -> None:
        """Wait for both nodes, and have the policy's node connect to its server."""
        self._until(lambda: self._report is not None, "the simulated robot says nothing")
        self._bring_to(LifecycleState.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CONFIGURE)

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Change dynamic parameters of the policy's node."""
        self._set(self._set_parameters, values)

    def play(self, trial: Trial, camera: EpisodeCamera | None = None) -> TrialResult:
        """Play one episode to its end, in real time.

        Args:
            trial: what is tried; its network is the real one.
            camera: makes a film; None for none.

        Raises:
            PolicyFailedError: a process has ended, or the node does not run for a reason that is
                not the policy's.
        """
        self._stand()
        order = EpisodeOrder(trial.task, trial.cube, trial.seed, trial.index)
        number = 1 if self._report is None else self._report.episode + 1
        self._set(self._place, {"episode": str(order)})
        self._call(self._set_prompt, SetPrompt.Request(prompt=order.prompt, reset=True))
        self._begin_recording()
        report = self._until(lambda: self._placed(number), "the cameras show no new start")
        course = Course(trial, report.state.time)
        self._bring_to(LifecycleState.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_ACTIVATE)
        self._is_active, self._course = True, course
        if camera is None:
            while not course.is_over:
                self._listen()
            film = b""
        else:
            film = self._film(trial, course, camera)
        self._course = None
        self._raise_if_it_never_ran(course)
        result = course.result(film)
        self._end_recording(is_success=result.is_success)
        self._stand()
        return result

    def close(self) -> None:
        """Leave ROS; an episode that is recorded has no end, and is discarded."""
        if self._is_recording:
            self._check = lambda: None
            with contextlib.suppress(PolicyFailedError):
                self._call(self._discard, Trigger.Request(), DISCARD_S)
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    # --- what is heard ---

    def _hear_report(self, message: String) -> None:
        self._report = report = parse_report(message.data)
        self._reported_at = time.monotonic()
        self._on_report(report)
        if self._course is not None:
            self._course.hear_report(report)

    def _hear_status(self, message: PolicyStatus) -> None:
        self._status = message
        if self._course is not None:
            self._course.hear_state(State(message.state))

    def _hear_chunk(self, _: ActionChunk) -> None:
        if self._course is not None:
            self._course.hear_chunk()

    def _placed(self, number: int) -> SceneReport | None:
        """The newest report, if it is of an episode that both cameras have shown."""
        report = self._report
        if report is None or report.episode < number or report.pictures < PICTURES:
            return None
        return report

    def _raise_if_it_never_ran(self, course: Course) -> None:
        status = self._status
        if course.has_run or status is None or Cause(status.cause) in OF_THE_POLICY:
            return
        raise PolicyFailedError(f"the robot's node did not run: {status.message}")

    def _film(self, trial: Trial, course: Course, camera: EpisodeCamera) -> bytes:
        newest: dict[str, Image] = {}
        heard = [
            self._node.create_subscription(
                ImageMessage, camera_topic(name), _keeper(newest, name), 2
            )
            for name in CAMERAS
        ]
        try:
            self._until(lambda: len(newest) == len(CAMERAS), "the cameras show nothing")
            while not course.is_over:
                camera.shoot(dict(newest), trial, course.progress)
                due = time.monotonic() + 1 / FPS
                while time.monotonic() < due:
                    self._listen(due - time.monotonic())
            camera.shoot(dict(newest), trial, course.progress)
            return camera.develop()
        finally:
            for subscription in heard:
                self._node.destroy_subscription(subscription)

    # --- what is ordered ---

    def _stand(self) -> None:
        """Deactivate the node: it brakes, and forgets where it has led the arm."""
        if self._is_active:
            self._bring_to(LifecycleState.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_DEACTIVATE)
            self._is_active = False

    def _begin_recording(self) -> None:
        if not self._is_recorded:
            return
        # an answer that was lost is asked for again, and refused then
        self._is_recording = True
        answer = self._call(self._start, Trigger.Request())
        if not answer.success and "is being recorded" not in answer.message:
            self._is_recording = False
            raise PolicyFailedError(f"the robot's node records no episode: {answer.message}")

    def _end_recording(self, *, is_success: bool) -> None:
        if not self._is_recording:
            return
        self._call(self._stop, Trigger.Request())
        self._is_recording = False
        self._call(self._mark, SetBool.Request(data=is_success))

    def _bring_to(self, state: int, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        if self._call(self._change, request).success:
            return
        # refused also where it was asked twice, and has done it
        if self._call(self._get_state, GetState.Request()).current_state.id != state:
            raise PolicyFailedError("the robot's node cannot be configured")

    def _set(self, client: Client, values: Mapping[str, Any]) -> None:
        given = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        for result in self._call(client, SetParameters.Request(parameters=given)).results:
            if not result.successful:
                raise PolicyFailedError(f"a parameter is refused: {result.reason}")

    def _call(self, client: Client, request: Any, seconds: float = ANSWER_S) -> Any:
        name = client.srv_name
        self._until(client.service_is_ready, f"there is no service {name}", seconds)
        futures: list[Any] = []
        ask_at = time.monotonic()

        def answered() -> Any:
            nonlocal ask_at
            if time.monotonic() >= ask_at:
                futures.append(client.call_async(request))
                ask_at = time.monotonic() + ASK_AGAIN_S
            return next((future for future in futures if future.done()), None)

        return self._until(answered, f"no answer of {name}", seconds).result()

    def _until(self, value: Callable[[], Any], problem: str, seconds: float = ANSWER_S) -> Any:
        """Listen until there is a value."""
        until = time.monotonic() + seconds
        while not (found := value()):
            if time.monotonic() > until:
                raise PolicyFailedError(f"{problem} within {seconds:.0f} s")
            self._spin(0.1)
        return found

    def _listen(self, seconds: float = 0.1) -> None:
        """Hear more of an episode, which ends by the simulated robot's own time."""
        if time.monotonic() > self._reported_at + ANSWER_S:
            raise PolicyFailedError(f"the simulated robot says nothing within {ANSWER_S:.0f} s")
        self._spin(seconds)

    def _spin(self, seconds: float) -> None:
        self._check()
        self._executor.spin_once(timeout_sec=max(seconds, 0.0))


def _keeper(newest: dict[str, Image], name: str) -> Callable[[ImageMessage], None]:
    def keep(message: ImageMessage) -> None:
        pixels = np.frombuffer(message.data, np.uint8)
        newest[name] = pixels.reshape(message.height, message.width, 3).copy()

    return keep
