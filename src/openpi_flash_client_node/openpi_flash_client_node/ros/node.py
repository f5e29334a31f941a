"""The ROS 2 node: hands messages to the bridge and carries out its effects; it decides nothing.

`on_cleanup` undoes what `on_configure` has made; a configure that fails leaves nothing behind.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String

from openpi_flash_client_node.ros import messages, qos
from openpi_flash_client_node.ros.activity_watch import ActivityWatch
from openpi_flash_client_node.ros.black_box import BlackBox
from openpi_flash_client_node.ros.controller_check import ControllerCheck
from openpi_flash_client_node.ros.episodes import Episodes
from openpi_flash_client_node.ros.get_action_chunk import GetActionChunkService
from openpi_flash_client_node.ros.image_work import IMAGE_WORK
from openpi_flash_client_node.ros.inputs import Inputs
from openpi_flash_client_node.ros.malloc_tuning import keep_image_memory
from openpi_flash_client_node.ros.orders import OrderServices
from openpi_flash_client_node.ros.outputs import Outputs
from openpi_flash_client_node.ros.parameters import RosParameters
from openpi_flash_client_node.ros.rclpy_versions import ClockType
from openpi_flash_client_node.ros.run_policy import RunPolicyServer
from openpi_flash_client_node.ros.secret_parameters import NodeWithSecrets
from openpi_flash_client_node.ros.silent_inputs import SilentInputs
from openpi_flash_robot.bridge.bridge import Bridge
from openpi_flash_robot.bridge.diagnostics import reports
from openpi_flash_robot.bridge.effects import (
    AnswerChunk,
    Effect,
    Reconnect,
    ResetPolicy,
    SendRequest,
    Warn,
)
from openpi_flash_robot.bridge.goal_run import GoalRun
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.link.api_key import find_api_key
from openpi_flash_robot.link.events import LinkEvent
from openpi_flash_robot.link.policy_link import PolicyLink, backoff
from openpi_flash_robot.link.transport import (
    Chooser,
    ImageMessage,
    PolicyConnection,
    image_chooser,
    link_notices,
    open_policy,
    resolve_server,
)
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.run.sending import job_of
from openpi_flash_robot.settings.bounds import BoundSource, bounded, checked, told_limits
from openpi_flash_robot.settings.joint_limits_file import limits_from_file
from openpi_flash_robot.settings.node_settings import LinkSettings, NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.robot_description import DescriptionError, parse_description

HEARTBEAT_S = 0.5
GRAPH_CHECK_S = 0.2
DISCOVERY_S = 1.0
"""How long DDS is given to find the other nodes before the graph is believed."""
DIAGNOSTICS_S = 1.0

OpenPolicy = Callable[[LinkSettings], PolicyConnection]


class ClientNode(NodeWithSecrets, LifecycleNode):
    """Ties cameras and joints to a policy server, and controllers to its chunks."""

    def __init__(self, *, open_policy: OpenPolicy = open_policy, **arguments: Any) -> None:
        """Declare the parameters; everything else waits for `configure`.

        `is_finished` becomes true by the transition `shutdown`: the process has nothing left to do.

        Args:
            open_policy: makes the connection to the server.
            arguments: go to rclpy's node.
        """
        super().__init__(
            "client_node",
            namespace="openpi",
            automatically_declare_parameters_from_overrides=True,
            **arguments,
        )
        self._open_policy = open_policy
        self._table = RosParameters(self, self.secrets)
        self._settings: NodeSettings | None = None
        self._unbounded: NodeSettings | None = None
        self._limits_file: tuple[BoundSource, ...] = ()
        self._bounds: tuple[BoundSource, ...] = ()
        self._bridge: Bridge[ImageMessage] | None = None
        self._goals: GoalRun | None = None
        self._run_policy: RunPolicyServer | None = None
        self._get_action_chunk: GetActionChunkService | None = None
        self._link: PolicyLink | None = None
        self._images: Chooser | None = None
        self._wake_up: Any = None
        self._inputs: Inputs | None = None
        self._activity: ActivityWatch | None = None
        self._outputs: Outputs | None = None
        self._controller_check: ControllerCheck | None = None
        self._black_box = BlackBox(self)
        self._episodes = Episodes(self)
        self._made: list[Callable[[], Any]] = []
        self._last_status: Status | None = None
        self._made_at = 0.0
        self.is_finished = False
        self._session = f"{self.get_name()}-{secrets.token_hex(4)}"

    @property
    def wants_autostart(self) -> bool:
        """Whether the node is to configure and activate itself."""
        return self._table.flag("autostart")

    @property
    def _log(self) -> RcutilsLogger:
        return self.get_logger()  # type: ignore[no-untyped-call]

    # --- lifecycle ---

    def on_configure(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, subscribe, and begin to connect."""
        try:
            settings = self._table.settings()
            self._limits_file = self._bounds = limits_from_file(settings)
            settings = self._resolved(settings)
        except ParameterError as error:
            self._log.error(str(error))
            return TransitionCallbackReturn.FAILURE
        try:
            self._make(settings)
        except Exception as error:  # most likely an invalid topic name
            self._log.error(f"cannot configure: {error}")
            self._unmake()
            return TransitionCallbackReturn.FAILURE
        self._log_warnings(settings)
        self._log_limits()
        return TransitionCallbackReturn.SUCCESS

    def _resolved(self, settings: NodeSettings) -> NodeSettings:
        """The settings with the server's address and the API key as the link needs them."""
        link = resolve_server(settings.link)
        key = find_api_key(link, os.environ)
        for warning in key.warnings:
            self._log.warning(warning)
        return replace(settings, link=replace(link, api_key=key.text, session=self._session))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to send requests and to play chunks."""
        result = super().on_activate(state)
        assert self._controller_check is not None
        self._controller_check.ask_again()
        self._live_bridge.activate(self._now())
        self._carry_out()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold, then stop publishing to the controllers."""
        self._live_bridge.deactivate(self._now())
        self._carry_out()
        return super().on_deactivate(state)

    def on_cleanup(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Undo `on_configure`."""
        self._unmake()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Hold if anything moves, and end."""
        self._hold_and_unmake("shutting down")
        self.is_finished = True
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, _: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected exception: hold, and wait to be configured again."""
        self._hold_and_unmake("error")
        return TransitionCallbackReturn.SUCCESS

    def bring_up(self) -> bool:
        """Configure and activate; False if the parameters do not allow it."""
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:  # type: ignore[no-untyped-call]
                return False
        return True

    def halt(self) -> bool:
        """Hold, as `stop` does; whether a client of a goal has still to hear of it."""
        had_goal = self._goals is not None and self._goals.goal is not None
        if self._bridge is not None:
            self._bridge.deactivate(self._now(), "shutting down")
            self._carry_out()
        return had_goal

    def stop(self) -> None:
        """Hold, wait until the controllers have acknowledged it, and undo everything."""
        self._hold_and_unmake("shutting down")

    def _hold_and_unmake(self, message: str) -> None:
        if self._bridge is not None:
            self._bridge.deactivate(self._now(), message)
            self._carry_out()
            self._live_outputs.wait_for_controllers()
        self._unmake()

    def _make(self, settings: NodeSettings) -> None:
        keep_image_memory()
        self._unbounded = settings
        self._settings = settings = bounded(settings, self._bounds)
        self._made_at = time.monotonic()
        self._bridge = Bridge(settings, messages.fingerprint_of)
        self._goals = GoalRun(self._bridge)
        self._made.append(self._black_box.stop)  # last of all: it takes time when it has to write
        self._black_box.start(settings)
        self._made.append(self._episodes.stop)
        self._episodes.start(settings, self._status)
        self._outputs = Outputs(self, settings)
        self._made.append(self._outputs.destroy)
        self._inputs = Inputs(
            self,
            settings,
            self._bridge,
            self._black_box,
            self._episodes,
            now=self._now,
            changed=self._carry_out,
        )
        self._made.append(self._inputs.destroy)
        if topic := settings.robot_description_topic:
            description = self.create_subscription(String, topic, self._on_description, qos.LATCHED)
            self._made.append(partial(self.destroy_subscription, description))
        self._make_services()
        self._wake_up = self.create_guard_condition(self._on_link)
        self._made.append(partial(self.destroy_guard_condition, self._wake_up))
        self._images = image_chooser(settings.observation)
        self._link = PolicyLink(
            partial(self._open_policy, settings.link),
            wake=self._wake_up.trigger,
            delays=partial(backoff, settings.link.reconnect_delay_max),
        )
        self._link.start()
        self._make_timer(to_seconds(settings.control_period_ns), self._on_tick)
        # real time for what people read: with use_sim_time the node's own clock may stand still
        real_time = Clock(clock_type=ClockType.STEADY_TIME)
        self._make_timer(HEARTBEAT_S, self._on_heartbeat, real_time)
        silent_inputs = SilentInputs(self, self._bridge, settings.observation)
        self._make_timer(GRAPH_CHECK_S, silent_inputs.look, real_time)
        self._make_timer(GRAPH_CHECK_S, self._inputs.look_at_poses, real_time)
        self._controller_check = ControllerCheck(self, settings.controllers)
        self._made.append(self._controller_check.destroy)
        self._activity = ActivityWatch(self, settings, self._on_graph_check)
        self._made.append(self._activity.destroy)
        if settings.controllers:
            self._make_timer(GRAPH_CHECK_S, self._on_graph_check, real_time)
        self._make_timer(DIAGNOSTICS_S, self._on_diagnostics, real_time)
        changed = self._table.on_change(self._on_settings, self._check_settings)
        self._made.append(partial(self.remove_on_set_parameters_callback, changed))

    def _make_services(self) -> None:
        orders = OrderServices(self, self._live_bridge, now=self._now, changed=self._carry_out)
        self._made.append(orders.destroy)
        assert self._goals is not None
        self._run_policy = RunPolicyServer(
            self, self._goals, now=self._now, changed=self._carry_out
        )
        self._made.append(self._run_policy.destroy)
        self._get_action_chunk = GetActionChunkService(self, self._on_get_action_chunk)
        self._made.append(self._get_action_chunk.destroy)

    def _make_timer(
        self, period: float, callback: Callable[[], None], clock: Clock | None = None
    ) -> None:
        timer = self.create_timer(period, callback, clock=clock)
        self._made.append(partial(self.destroy_timer, timer))

    def _unmake(self) -> None:
        """Undo what `_make` has done so far, in reverse order."""
        if self._link is not None:
            self._link.close()
        while self._made:
            self._made.pop()()
        self._settings = self._bridge = self._link = self._wake_up = self._last_status = None
        self._outputs, self._unbounded, self._limits_file, self._bounds = None, None, (), ()
        self._inputs = self._controller_check = self._activity = None
        self._goals = self._run_policy = self._get_action_chunk = self._images = None

    @property
    def _live_bridge(self) -> Bridge[ImageMessage]:
        assert self._bridge is not None, "the node is not configured"
        return self._bridge

    @property
    def _live_inputs(self) -> Inputs:
        assert self._inputs is not None, "the node is not configured"
        return self._inputs

    @property
    def _live_outputs(self) -> Outputs:
        assert self._outputs is not None, "the node is not configured"
        return self._outputs

    @property
    def _live_link(self) -> PolicyLink:
        assert self._link is not None, "the node is not configured"
        return self._link

    def _log_limits(self) -> None:
        """Say which limits are not those of the parameters, and where they come from."""
        assert self._unbounded is not None
        for line in told_limits(self._unbounded, self._bounds):
            self._log.info(line)

    def _log_warnings(self, settings: NodeSettings) -> None:
        if not settings.dry_run:
            names = ", ".join(controller.topic for controller in settings.controllers)
            self._log.warning(f"dry_run is false: chunks move the robot through {names}")
        for notice in link_notices(settings.link):
            self._log.warning(notice)

    # --- inputs ---

    def _now(self) -> int:
        now: int = self.get_clock().now().nanoseconds
        return now

    def _status(self) -> Status:
        return self._live_bridge.status(self._now())

    def _on_description(self, message: String) -> None:
        assert self._settings is not None
        topic = self._settings.robot_description_topic
        try:
            joints = parse_description(message.data)
        except DescriptionError as error:
            self._log.warning(f"the description of the robot on {topic} {error}")
            return
        assert self._unbounded is not None
        self._bounds = (*self._limits_file, BoundSource(topic, joints))
        self._use(self._unbounded)
        self._log_limits()
        self._carry_out()

    def _on_link(self) -> None:
        if self._link is None:
            return
        self._live_inputs.sense()
        for event in self._link.events():
            self._on_link_event(event)
        self._live_inputs.sense()
        self._live_bridge.tick(self._now())
        self._carry_out()

    def _on_link_event(self, event: LinkEvent) -> None:
        self._live_bridge.link_event(self._now(), event)
        self._black_box.link_event(event)
        self._episodes.link_event(event)
        self._carry_out()

    def _on_tick(self) -> None:
        self._live_inputs.settle()
        self._live_bridge.look_at_clock(self._now(), time.monotonic_ns())
        self._live_inputs.sense()
        self._live_bridge.tick(self._now())
        self._carry_out()

    def _on_settings(self, settings: NodeSettings) -> None:
        assert self._settings is not None
        # the link of the running node has its address and key from `_resolved`
        timeout = settings.link.request_timeout
        settings = replace(settings, link=replace(self._settings.link, request_timeout=timeout))
        self._use(settings)

    def _check_settings(self, settings: NodeSettings) -> None:
        """Refuse settings that contradict the limits file."""
        checked(settings, self._limits_file)

    def _use(self, settings: NodeSettings) -> None:
        """Take settings, within the bounds of the limits file and the robot's description."""
        self._unbounded = settings
        self._settings = bounded(settings, self._bounds)
        self._live_bridge.update_settings(self._settings)
        self._live_inputs.update_settings(self._settings)
        self._black_box.settings(self._settings)
        self._episodes.settings(self._settings)

    def _on_get_action_chunk(self, prompt: str, timeout: float) -> str:
        self._live_inputs.take()  # while the robot is paused nobody else does
        refusal = self._live_bridge.infer_once(self._now(), prompt, timeout)
        self._carry_out()
        return refusal

    # --- outputs ---

    def _carry_out(self) -> None:
        """Carry out the effects of the bridge, then publish its status if that has changed."""
        assert self._goals is not None
        assert self._run_policy is not None
        self._goals.tick(self._now())
        for effect in self._live_bridge.take_effects():
            self._do(effect)
            self._black_box.effect(effect)
            self._episodes.effect(effect)
        now = self._now()
        status = self._live_bridge.status(now)
        self._black_box.status(status)
        self._episodes.status(status)
        if status.differs_from(self._last_status):
            self._log_status(status)
            self._show_status(status, now)
        self._run_policy.settle()

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, SendRequest):
            self._send(effect)
        elif isinstance(effect, ResetPolicy):
            self._live_link.reset()
        elif isinstance(effect, Reconnect):
            self._live_link.reconnect()
        elif isinstance(effect, Warn):
            self._log.warning(effect.message)
        elif isinstance(effect, AnswerChunk):
            assert self._get_action_chunk is not None
            self._get_action_chunk.answer(effect)
        else:
            self._live_outputs.publish(effect)

    def _send(self, effect: SendRequest) -> None:
        assert self._settings is not None
        self._live_link.send(job_of(effect, self._settings, IMAGE_WORK, self._images))

    def _show_status(self, status: Status, now: int) -> None:
        self._last_status = status
        self._live_outputs.show_status(status, now)
        assert self._run_policy is not None
        self._run_policy.show(status, self._live_bridge.subtask)

    def _on_heartbeat(self) -> None:
        self._on_tick()
        now = self._now()
        self._show_status(self._live_bridge.status(now), now)

    def _on_graph_check(self) -> None:
        assert self._settings is not None
        assert self._controller_check is not None
        unheard = self._live_bridge.states.why_never_heard(self._now())
        publishers = self._live_inputs.stop_publishers()
        self._live_bridge.look_at_stop_publishers(self._now(), publishers)
        objection = self._controller_check.look(is_robot_there=unheard is None)
        if objection is not None and unheard is not None:
            objection = unheard  # the robot is not up, and its controllers with it
        assert self._activity is not None
        objection = self._activity.look() or objection
        if time.monotonic() - self._made_at < DISCOVERY_S or not self._live_outputs.commands:
            return
        topics = self._live_outputs.command_topics()
        self._live_bridge.command_topics(self._now(), topics, objection)
        self._carry_out()

    def _on_diagnostics(self) -> None:
        assert self._settings is not None
        now = self._now()
        entries = [
            *reports(self._live_bridge, self._settings, now),
            *self._episodes.reports(),
        ]
        self._live_outputs.show_diagnostics(entries, now)

    def _log_status(self, status: Status) -> None:
        if status.severity >= logging.ERROR:
            self._log.error(status.line)
        elif status.severity >= logging.WARNING:
            self._log.warning(status.line)
        else:
            self._log.info(status.line)
