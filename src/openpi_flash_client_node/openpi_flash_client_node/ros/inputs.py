"""What the node hears of the robot and of people: its subscriptions, which feed the bridge.

Sensors' messages wait in the middleware until somebody needs them; `take` and `sense` fetch them.
Stops, the takeover and the prompt are heard at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool

from openpi_flash_client_node.ros import qos
from openpi_flash_client_node.ros.black_box import BlackBox
from openpi_flash_client_node.ros.episodes import Episodes
from openpi_flash_client_node.ros.pose_inputs import PoseInputs
from openpi_flash_client_node.ros.prompt_topic import PromptTopic
from openpi_flash_client_node.ros.sensor_subscription import SensorSubscription
from openpi_flash_client_node.ros.state_messages import (
    frame_problem,
    message_type,
    numbers_of,
    stamp_of_state,
)
from openpi_flash_client_node.ros.stop_subscriptions import StopSubscriptions
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.cdr.images import EncodedImage, RawImage
from openpi_flash_robot.cdr.joint_states import JointStates
from openpi_flash_robot.link.transport import ImageMessage
from openpi_flash_robot.senses.joints import prefixed
from openpi_flash_robot.settings.node_settings import Camera, NodeSettings
from openpi_flash_robot.settings.state_inputs import StateInput, StateKind
from openpi_flash_robot.settings.stop_states import SaidState, StopState


class Inputs:
    """The subscriptions of one configuration of the node."""

    def __init__(
        self,
        node: LifecycleNode,
        settings: NodeSettings,
        bridge: Bridge[ImageMessage],
        black_box: BlackBox,
        episodes: Episodes,
        *,
        now: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        """Subscribe.

        Args:
            node: subscribes.
            settings: name the topics.
            bridge: is told what is heard.
            black_box: keeps it.
            episodes: record it while an episode is recorded.
            now: this moment on the ROS clock, nanoseconds.
            changed: called after what has to take effect at once.
        """
        self._node, self._bridge, self._black_box = node, bridge, black_box
        self._episodes = episodes
        self._now, self._changed = now, changed
        self._made: list[Callable[[], Any]] = []
        self._joints_are_stamped_on_arrival = settings.observation.joints_are_stamped_on_arrival
        self._switch_topic = settings.takeover.switch_topic
        self.cameras: list[SensorSubscription] = []
        self._states: list[SensorSubscription] = []
        try:
            self._subscribe_to_cameras(settings)
            self._subscribe_to_states(settings)
            self._poses = PoseInputs(
                node,
                bridge,
                settings.observation,
                black_box,
                now=now,
                record=episodes.sensor,
            )
            self._made.append(self._poses.destroy)
            self._stops = StopSubscriptions(
                node, settings.stops, switched=self._on_stop, said=self._on_stop_state
            )
            self._made.append(self._stops.destroy)
            if self._switch_topic:
                self._subscribe_to_takeover(settings)
            self._prompt_topic: PromptTopic | None = None
            if topic := settings.prompt_topic:
                self._prompt_topic = PromptTopic(node, topic, self._on_prompt)
                self._made.append(self._prompt_topic.destroy)
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Unsubscribe."""
        while self._made:
            self._made.pop()()

    def update_settings(self, settings: NodeSettings) -> None:
        """Take what may change while the node runs; topics may not."""
        self._joints_are_stamped_on_arrival = settings.observation.joints_are_stamped_on_arrival

    def sense(self) -> None:
        """Take what has arrived of the inputs that the bridge is about to look at."""
        for state in self._states:
            state.take()
        self._poses.take()
        if self._episodes.is_recording or self._bridge.wants_frames(self._now()):
            for camera in self.cameras:
                camera.take()

    def take(self) -> None:
        """Take everything that has arrived."""
        for sensor in (*self.cameras, *self._states):
            sensor.take()
        self._poses.take()

    def settle(self) -> None:
        """Follow publishers that come and go, and messages that nobody could take."""
        for sensor in (*self.cameras, *self._states):
            sensor.settle()
        self._poses.settle()
        if self._prompt_topic is not None:
            self._prompt_topic.settle()

    def look_at_poses(self) -> None:
        """Tell the bridge of poses that cannot be had."""
        self._poses.look()

    def stop_publishers(self) -> dict[str, int]:
        """How many publishers each stop has that is heard on change only."""
        return self._stops.publishers()

    # --- the subscriptions ---

    def _subscribe_to_cameras(self, settings: NodeSettings) -> None:
        for camera in settings.observation.cameras:
            kind = CompressedImage if camera.is_compressed else Image
            callback = partial(self._on_image, camera)
            recorded = self._episodes.image if kind is Image else self._episodes.sensor
            self.cameras.append(
                self._subscribe(kind, camera.topic, callback, qos.IMAGES_DEPTH, recorded)
            )

    def _subscribe_to_states(self, settings: NodeSettings) -> None:
        observation = settings.observation
        topics, prefixes = observation.joint_state_topics, observation.joint_state_prefixes
        for topic, prefix in zip(topics, prefixes, strict=True):
            self._add_state(JointState, topic, partial(self._on_joints, prefix))
        for state in observation.states:
            if not state.kind.is_of_joints and state.kind is not StateKind.TF:
                self._add_state(message_type(state), state.topic, partial(self._on_vector, state))

    def _subscribe_to_takeover(self, settings: NodeSettings) -> None:
        quality = qos.stop_input(is_latched=settings.takeover.timeout_ns == 0)
        switch = self._node.create_subscription(
            Bool, self._switch_topic, self._on_takeover, quality
        )
        self._made.append(partial(self._node.destroy_subscription, switch))
        self._add_state(JointState, settings.takeover.topic, self._on_target)

    def _add_state(self, kind: type, topic: str, callback: Callable[[Any, int], None]) -> None:
        self._states.append(
            self._subscribe(kind, topic, callback, qos.JOINT_STATES_DEPTH, self._episodes.sensor)
        )

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any, int], None],
        depth: int,
        record: Callable[[SensorSubscription, Any], None],
    ) -> SensorSubscription:
        """Hand messages to a callback, with how long they have waited here, ns; record them."""
        sensor = SensorSubscription(
            self._node,
            kind,
            topic,
            lambda message: callback(message, sensor.waited_ns),
            depth,
            record=record,
        )
        self._made.append(sensor.destroy)
        return sensor

    # --- what they hear ---

    def _on_image(self, camera: Camera, image: RawImage | EncodedImage, waited_ns: int) -> None:
        stamp_ns = image.stamp_ns
        if camera.is_stamped_on_arrival:
            stamp_ns = self._now() - waited_ns
        self._bridge.add_frame(camera.name, stamp_ns, image)
        self._black_box.camera(camera.name, stamp_ns, image)

    def _on_joints(self, prefix: str, states: JointStates, waited_ns: int) -> None:
        stamp_ns = states.stamp_ns
        if self._joints_are_stamped_on_arrival:
            stamp_ns = self._now() - waited_ns
        names = prefixed(states.name, len(states.position), prefix)
        self._bridge.add_joints(stamp_ns, names, states.position, states.velocity, states.effort)
        self._black_box.joints(stamp_ns, states)

    def _on_vector(self, state: StateInput, message: Any, waited_ns: int) -> None:
        if why := frame_problem(state, message):
            self._bridge.states.refuse_vector(state.name, why)
            return
        stamp_ns = stamp_of_state(state, message, self._now() - waited_ns)
        self._bridge.add_vector(state.name, stamp_ns, numbers_of(state, message))

    def _on_stop(self, topic: str, value: bool) -> None:
        self._bridge.hear_stop(self._now(), topic, value)
        self._black_box.stop_input(topic, value)
        self._changed()

    def _on_stop_state(self, state: StopState, said: SaidState) -> None:
        self._bridge.hear_state(self._now(), state.name, said)
        self._black_box.stop_input(state.topic, said.stops)
        self._changed()

    def _on_takeover(self, message: Bool) -> None:
        self._bridge.hear_takeover(self._now(), message.data)
        self._black_box.stop_input(self._switch_topic, message.data)
        self._changed()

    def _on_target(self, states: JointStates, _: int) -> None:
        self._bridge.hear_target(self._now(), states.name, states.position)

    def _on_prompt(self, prompt: str) -> None:
        self._bridge.set_prompt(self._now(), prompt, reset=False)
        self._changed()
