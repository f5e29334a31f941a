"""How one observation travels on the robot's side, without ROS, sockets or a clock.

Feed it what happens, always with `now` in integer nanoseconds on the clock of the stamps; it
answers with effects for the node to carry out:

- `add_frame`, `add_joints`: images and joint positions; images may wait until `wants_frames`;
- `link_event`: what the link to the server reports;
- `command_topics`: who listens to the controllers' topics, and who else speaks there;
- `activate`, `deactivate`, `pause`, `hold`, `reset`, `set_prompt`, `infer_once`: the services of
  the node; `begin_goal`, `end_goal`: see `goal_run`;
- `hear_takeover`, `hear_target`: a person at the controls;
- `look_at_clock`: how far `now` and a steady clock have come;
- `tick(now)`: time has passed;
- `take_effects()`: what to do now. Call it after each of the above.

What moves the robot and what stops it is in `arm`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.arm import WAITING, Arm
from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.drop_reason import drop_reason
from openpi_flash_robot.bridge.effects import (
    Effect,
    PublishChunk,
    PublishPlan,
    Reconnect,
    ResetPolicy,
    SendRequest,
    Warn,
)
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.planner_feed import PlannerFeed
from openpi_flash_robot.bridge.request_schedule import PendingRequest, RequestSchedule
from openpi_flash_robot.bridge.run_state import (
    Order,
    RunState,
    is_active,
    is_ordered,
)
from openpi_flash_robot.bridge.server_state import ServerState
from openpi_flash_robot.bridge.single_chunk import ChunkWish, SingleChunk, why_not
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status, holding
from openpi_flash_robot.bridge.tally import Tally
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.answer import AnswerError, ParsedAnswer, parse_answer, parse_first
from openpi_flash_robot.link.events import (
    FailureKind,
    FirstActionsCame,
    LinkDown,
    LinkEvent,
    LinkUp,
    RequestDone,
    RequestFailure,
    ResetFailed,
    TransportUsed,
)
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.columns import left_out, of_axes
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.play.pose_values import with_vectors
from openpi_flash_robot.play.trajectory import trajectory_of
from openpi_flash_robot.senses.frame_demand import FrameDemand
from openpi_flash_robot.senses.frames import CameraFrames, Message
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.senses.states import StateSources
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.server_contract import Agreement
from openpi_flash_robot.settings.stop_states import SaidState

SHORTEST_S = 0.01
"""Seconds; a request that is sent is waited for at least so long."""


class Bridge(Generic[Message]):
    """Decides when to ask the policy, what to do with its answers, and when to hold."""

    def __init__(
        self, settings: NodeSettings, fingerprint: Callable[[Message], int] | None = None
    ) -> None:
        """Begin without inputs and without a server.

        Args:
            settings: of the node.
            fingerprint: of an image, by which one that never changes is known; None looks at none.
        """
        observation = settings.observation
        self._settings = settings
        self.frames: CameraFrames[Message] = CameraFrames(
            {camera.name: camera.topic for camera in observation.cameras}
        )
        self._frame_demand = FrameDemand(self.frames)
        self.states = StateSources(observation)
        self._unmoved = np.isin(settings.axes, settings.unmoved_joints)
        self._effects: list[Effect] = []
        self._instruction = Instruction(settings.prompt)
        self.server = ServerState(settings.link.server)
        self._requests: RequestSchedule[Message] = RequestSchedule()
        self._single: SingleChunk[Message] = SingleChunk()
        self._observation_problem: Hold | None = None
        self._arm = Arm(
            settings,
            self.frames,
            self.states,
            fingerprint=fingerprint,
            drop_request=self._requests.forget,
            effects=self._effects,
        )
        self._sequence = 0
        self._jpeg_quality = 0
        self._planner = PlannerFeed()
        self.tally = Tally()

    # --- sensors ---

    def add_frame(self, camera: str, stamp_ns: int, message: Message) -> None:
        """An image has arrived."""
        self.frames.add(camera, stamp_ns, message)

    def wants_frames(self, now: int) -> bool:
        """Whether the frames that have arrived are about to be looked at: add them first.

        Already one period before an observation is due, so that little is left to take then.
        """
        soon = now + self._settings.control_period_ns
        return (
            self._frame_demand.wants(now, self._settings.observation.max_blind_ns)
            or self._single.wish is not None
            or (self._stopped() is None and self._request_is_due(soon))
        )

    def add_joints(
        self,
        stamp_ns: int,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float] = (),
        efforts: Sequence[float] = (),
    ) -> None:
        """Joint states have arrived."""
        self.states.add_joints(stamp_ns, names, positions, velocities, efforts)

    def add_pose(
        self,
        controller: str,
        stamp_ns: int,
        position: Sequence[float],
        quaternion: Sequence[float],
        frame: str,
    ) -> dict[str, float]:
        """The pose of an end effector has arrived; its axes, see `StateSources.add_pose`."""
        return self.states.add_pose(controller, stamp_ns, position, quaternion, frame)

    def add_vector(self, state: str, stamp_ns: int, values: Sequence[float]) -> None:
        """A pose, a wrench or another vector has arrived, by the name of its input."""
        self.states.add_vector(state, stamp_ns, values)

    # --- services ---

    def activate(self, now: int) -> None:
        """Begin to send requests and, unless it is a dry run, to move."""
        self.tally.start_anew()
        self._arm.activate(now)

    def deactivate(self, now: int, message: str = "not active") -> None:
        """Stop sending requests and moving; ends a pause, a hold and what needs a person."""
        self._planner.forget_error()
        self._arm.deactivate(now, message)
        self._effects += self._single.give_up(message)

    def pause(self, now: int, paused: bool) -> None:
        """Stop sending requests and moving, or go on.

        A robot that was not paused but waits for a goal goes on without one. One that was paused
        goes back to waiting: who ends a pause may not know that the goal has ended meanwhile.
        """
        if paused:
            self._arm.order(now, Order.PAUSED, "paused by ~/pause")
            return
        what_ends = Order.PAUSED if is_ordered(self.run_state, Order.PAUSED) else Order.NO_GOAL
        if is_ordered(self.run_state, what_ends):
            self._arm.take_back(what_ends)
            self._arm.hold(now, WAITING)

    def hold(self, now: int) -> None:
        """Hold position until `reset`."""
        self._arm.order(now, Order.HELD, "held by ~/hold")

    def reset(self, now: int) -> Hold | None:
        """Forget the running chunk and the policy's state; ends `hold` and what needs a person.

        An emergency stop that is still pressed is not ended: it is returned.
        """
        pressed = self._arm.look_at(now)
        self._start_anew(now)
        return pressed

    def _start_anew(self, now: int) -> None:
        self._planner.forget()
        self._arm.restart(now)
        self._instruction = self._instruction.anew()
        self._effects.append(ResetPolicy())

    def set_prompt(self, now: int, prompt: str, *, reset: bool) -> None:
        """Change the instruction; the next request carries it, and is due at once.

        `reset` starts anew as well, but does not end a `hold`. The same instruction without `reset`
        changes nothing.
        """
        instruction = self._instruction.changed(prompt)
        if instruction is not self._instruction:
            self._instruction = instruction
            self._requests.ask_at_once()
        if reset:
            self._start_anew(now)

    def begin_goal(self, now: int, prompt: str, *, anew: bool = False) -> None:
        """Run for a goal; a robot that waited for one starts anew, one that moves goes on.

        Args:
            now: this moment.
            prompt: the instruction; empty keeps the current one.
            anew: start anew also if the robot moves.
        """
        waited = is_ordered(self.run_state, Order.NO_GOAL)
        if waited:
            self._arm.take_back(Order.NO_GOAL)
        self.set_prompt(now, prompt or self._instruction.text, reset=waited or anew)

    def end_goal(self, now: int, why: str) -> None:
        """Hold until the next goal, or until `pause` with false."""
        self._arm.order(now, Order.NO_GOAL, f"the goal has ended: {why}")

    def infer_once(self, now: int, prompt: str, timeout: float) -> str:
        """Ask for one chunk that is not played: an `AnswerChunk` follows.

        Args:
            now: this moment.
            prompt: the instruction; empty is the current one.
            timeout: seconds for the answer; 0 is request_timeout.

        Returns:
            Why it cannot be asked for; empty if it is.
        """
        if refusal := self._single.refusal(self.stop, self._stopped()):
            return refusal
        self._single.wish = ChunkWish(prompt, timeout or self._settings.link.request_timeout)
        self._ask_once(now)
        return ""

    def _ask_once(self, now: int) -> None:
        """Send the request of `infer_once` as soon as the link is free."""
        if self._single.wish is None or self._requests.is_in_flight:
            return
        if refusal := why_not(self.stop, self._stopped()):
            self._effects += self._single.give_up(refusal)
            return
        observation = self._observe(now)
        if isinstance(observation, Hold):
            self._effects += self._single.give_up(observation.message)
            return
        agreement, description = self.server.agreement, self.server.description
        assert agreement is not None
        assert description is not None
        self._effects.append(
            self._single.send(observation, self._instruction, agreement, description)
        )

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings
        self._arm.update_settings(settings)

    def hear_stop(self, now: int, topic: str, value: bool) -> None:
        """A message of an emergency stop, an enabling or a hold switch has arrived."""
        self._arm.hear_stop(now, topic, value)

    def hear_state(self, now: int, name: str, said: SaidState) -> None:
        """A state of the robot that may stop it has arrived, by the name of its parameters."""
        self._arm.hear_state(now, name, said)

    def look_at_stop_publishers(self, now: int, counts: Mapping[str, int]) -> None:
        """Take how many publishers the states of the robot have, by their names."""
        self._arm.look_at_stop_publishers(now, counts)

    def hear_takeover(self, now: int, value: bool) -> None:
        """A message of the switch by which a person takes the robot has arrived."""
        if self._arm.hear_takeover(now, value):
            self._start_anew(now)

    def hear_target(self, now: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Where a person who has the robot wants the axes has arrived."""
        self._arm.hear_target(now, names, positions)

    def command_topics(
        self, now: int, topics: Sequence[CommandTopic], objection: Hold | None = None
    ) -> None:
        """Take who is at the controllers' topics; see `Arm.look_at_topics`."""
        self._arm.look_at_topics(now, topics, objection)

    # --- the link ---

    def link_event(self, now: int, event: LinkEvent) -> None:
        """Take what the link reports."""
        if isinstance(event, LinkUp):
            self._connected(now, event)
        elif isinstance(event, LinkDown):
            self._disconnected(now, event)
        elif isinstance(event, TransportUsed):
            self._use_transport(event)
        elif isinstance(event, ResetFailed):
            self._effects.append(Warn(f"the policy was not reset: {event.message}"))
        elif isinstance(event, FirstActionsCame):
            self._begun(now, event)
        elif (single := self._single.take(now, event)) is not None:
            self._effects.append(single)
        else:
            is_answered = isinstance(event, RequestDone)
            request = self._requests.finish(now, event.request_id, is_answered=is_answered)
            if request is None:
                return
            if isinstance(event, RequestDone):
                self._answered(now, request, event)
            else:
                self._failed(now, request, event)

    def _connected(self, now: int, event: LinkUp) -> None:
        was_well = self.server.is_connected and not self.server.fault
        self._effects += self._single.give_up("the server has changed")
        refusal = self.server.connect(now, event, self._settings)
        if refusal is not None:
            self._requests.lose()
            self._arm.hold(now, refusal)
            return
        if not was_well:
            self._arm.hold(now, WAITING)
        assert self.server.agreement is not None
        self._effects += [Warn(warning) for warning in self.server.agreement.warnings]

    def _use_transport(self, event: TransportUsed) -> None:
        self.server.transport = event
        if event.is_change or event.name == "websocket":
            self._effects.append(Warn(f"requests go over {event.name}: {event.reason}"))

    def _disconnected(self, now: int, event: LinkDown) -> None:
        self._planner.forget_error()
        self._requests.lose()
        self._effects += self._single.give_up(event.message)
        self._arm.hold(now, self.server.disconnect(event))

    def _failed(self, now: int, request: PendingRequest[Message], event: RequestFailure) -> None:
        self._effects.append(self.tally.failed(now, request, drop_reason(event.kind)))
        if event.kind is FailureKind.SUPERSEDED:
            return
        self._requests.retry_later(now)
        if event.kind is FailureKind.LINK:
            return  # a `LinkDown` with the reason follows
        self._arm.hold(now, Hold(_HOLD_KINDS[event.kind], event.message))

    def _answered(self, now: int, request: PendingRequest[Message], event: RequestDone) -> None:
        agreement = self.server.agreement
        assert agreement is not None, "an answer came without a connection"
        self._jpeg_quality = event.cost.jpeg_quality
        if event.cost.image_news:
            self._effects.append(Warn(event.cost.image_news))
        server_s = float("nan")
        outcome: Plan | Hold | None
        try:
            answer = parse_answer(event.result, agreement)
        except AnswerError as error:
            outcome = Hold(HoldKind.BAD_CHUNK, str(error))
        else:
            server_s = answer.server_s
            observation = request.observation
            subtask = self._planner.take(now, answer, observation.prompt, observation.oldest_ns)
            if subtask is not None:
                self._effects.append(subtask)
            outcome = self._accepted(now, request, answer, agreement)
        if outcome is None:
            self._requests.ask_at_once()
        if isinstance(outcome, Hold):
            self._requests.retry_later(now)
            self._arm.hold(now, outcome)
        end = outcome if isinstance(outcome, Plan) else drop_reason(outcome)
        self._effects.append(self.tally.answered(now, request, event, server_s, end))

    def _accepted(
        self,
        now: int,
        request: PendingRequest[Message],
        answer: ParsedAnswer,
        agreement: Agreement,
    ) -> Plan | Hold | None:
        """Hand a chunk to the player, and show and command the plan it becomes.

        None: nothing changes, as `ChunkPlayer.accept` says.
        """
        chunk = self._chunk(now, request, answer.actions, agreement)
        self._arm.keep_up(now)
        self._arm.heed_stops(now)
        if stopped := self._stopped():
            return Hold(HoldKind.REQUESTED, stopped.message)
        plan = self._arm.accept(chunk, now)
        if not isinstance(plan, Plan):
            return plan
        self._sequence = plan.sequence
        assert self.server.description is not None
        self._effects.append(
            PublishChunk(
                start_ns=plan.start_ns,
                observation_ns=plan.observation_ns,
                step_ns=plan.step_ns,
                sequence=plan.sequence,
                first_step=plan.first_step,
                actions=answer.actions,
                instruction=request.instruction,
                description=self.server.description,
            )
        )
        self._show(now, plan)
        return plan

    def _begun(self, now: int, event: FirstActionsCame) -> None:
        """Play first actions until the whole answer comes; what cannot be played changes nothing.

        The answer says what is wrong, and decides whether the robot holds.
        """
        request, agreement = self._requests.wanted(event.request_id), self.server.agreement
        if request is None or agreement is None or agreement.horizon is None:
            return
        try:
            actions = parse_first(event.result, self._settings.first_actions, agreement)
        except AnswerError:
            return
        self._arm.keep_up(now)
        self._arm.heed_stops(now)
        # a stop makes the answer unwanted
        if self._stopped() or self._requests.wanted(event.request_id) is None:
            return
        chunk = self._chunk(now, request, actions, agreement)
        plan = self._arm.accept_first(chunk, agreement.horizon, now)
        if plan is not None:
            self._sequence = plan.sequence
            self._requests.begin(plan.sequence)
            self._show(now, plan)

    def _show(self, now: int, plan: Plan) -> None:
        every_axis = range(len(self._settings.axes))
        self._effects.append(
            PublishPlan(trajectory_of(plan.motion, now, every_axis, is_stamped=True))
        )

    def _chunk(
        self,
        now: int,
        request: PendingRequest[Message],
        actions: NDArray[np.float64],
        agreement: Agreement,
    ) -> Chunk:
        """The policy's numbers [H, C] as a chunk for the player."""
        observation = request.observation
        observed = self._arm.watch.by_axis(observation.joints.positions)
        motion = self._arm.player.motion
        measured = np.where(self._settings.measured_axes, observed, np.nan)
        commanded = measured if motion is None else motion.sample(now).positions
        rates = tuple(axis.reading.is_rate for axis in agreement.axes)
        # a robot that holds may have been moved since by others
        near = measured if self._arm.player.plan is None else commanded
        numbers = with_vectors(actions, agreement.poses, near)
        values = of_axes(numbers, agreement.axes, agreement.step_ns, observed, commanded)
        return Chunk(
            actions=left_out(values, self._unmoved, rates, observed),
            step_ns=agreement.step_ns,
            observation_ns=observation.oldest_ns,
            sequence=request.first_sequence or self._sequence + 1,
            grippers=tuple(axis.is_gripper for axis in agreement.axes),
            rates=rates,
        )

    # --- time ---

    def look_at_clock(self, now: int, steady_ns: int) -> None:
        """Stop by what the controllers have if the clock of `now` stands still; call it often."""
        self._arm.look_at_clock(now, steady_ns)

    def tick(self, now: int) -> None:
        """Hold if a plan has ended or must end; ask if that is due; command the controllers.

        The request comes first: its way is long, and the controllers have their window.
        """
        was_playing = self._arm.player.plan is not None
        self._arm.step(now)
        if self.server.take_recheck(now):
            self._effects.append(Reconnect())
        self._ask_once(now)
        # what was observed before a hold of this moment is of no use, and was perhaps not taken
        if self._is_due(now) and not (was_playing and self._arm.player.plan is None):
            self._ask(now)
        self._arm.command(now)

    def _is_due(self, now: int) -> bool:
        if self._stopped() is not None:
            self._observation_problem = None
            return False
        return not self._single.is_sent and self._request_is_due(now)

    def _request_is_due(self, now: int) -> bool:
        return self._requests.is_due(
            now,
            self._arm.player.plan,
            self._settings.execution_horizon,
            self._arm.player.lead_ns,
            self._arm.player.takeover_ns,
        )

    def _ask(self, now: int) -> None:
        observation = self._observe(now)
        if isinstance(observation, Hold):
            self._observation_problem = observation
            return
        self._observation_problem = None
        is_from_before = (
            self._arm.player.plan is None and observation.oldest_ns < self._arm.player.held_since_ns
        )
        if is_from_before or self._requests.has_seen(observation.frames):
            return
        agreement = self.server.agreement
        assert agreement is not None
        continuation = None
        if "rtc" in agreement.supports:
            continuation = self._arm.player.continuation(
                observation.oldest_ns,
                now + self._requests.expected_ns + self._arm.player.lead_ns,
                self._settings.execution_horizon,
            )
        request = self._requests.send(now, observation, instruction=self._instruction)
        timeout = self._timeout(now, observation, agreement)
        self._effects.append(
            SendRequest(
                request.request_id,
                observation,
                agreement,
                timeout,
                continuation,
                self._first_actions(agreement),
            )
        )

    def _first_actions(self, agreement: Agreement) -> int:
        """How many steps to ask for ahead of the rest; 0 for none."""
        wanted, horizon = self._settings.first_actions, agreement.horizon
        is_known = "first_actions" in agreement.supports and horizon is not None
        return wanted if is_known and horizon is not None and wanted < horizon else 0

    def _timeout(self, now: int, observation: Observation[Message], agreement: Agreement) -> float:
        """How long an answer is waited for: no longer than until its chunk would be refused, s."""
        longest = self._settings.link.request_timeout
        if agreement.horizon is None:
            return longest
        max_age_ns = self._arm.player.max_age_ns(agreement.horizon, agreement.step_ns)
        return min(longest, max(to_seconds(observation.oldest_ns + max_age_ns - now), SHORTEST_S))

    def _observe(self, now: int) -> Observation[Message] | Hold:
        """The inputs of this moment, or which of them is missing, old or of another moment."""
        if now <= 0:
            return _NO_CLOCK
        limits = self._settings.observation
        self._frame_demand.observe()
        frames = self.frames.newest_set(
            now, max_age_ns=limits.max_age_ns, max_skew_ns=limits.max_skew_ns
        )
        if isinstance(frames, Hold):
            return frames
        if frozen := self._arm.watch.frozen():
            return frozen
        joints = self.states.joints.newest(now, max_age_ns=limits.max_age_ns)
        if isinstance(joints, Hold):
            return joints
        # where the joints were when the images were taken, not where they are now
        joints = self.states.joints.at(frames.newest_ns, joints)
        states = self.states.newest(now, max_age_ns=limits.max_age_ns, joints=joints)
        if isinstance(states, Hold):
            return states
        return Observation(frames, joints, states, self._instruction.text)

    # --- status ---

    def status(self, now: int) -> Status:
        """What the bridge does and why."""
        plan, agreement = self._arm.player.plan, self.server.agreement
        return Status(
            condition=self._condition(now),
            instruction=self._instruction,
            model=agreement.model if agreement else "",
            checkpoint=agreement.checkpoint if agreement else "",
            sequence=plan.sequence if plan else 0,
            chunk_age=to_seconds(now - plan.observation_ns) if plan else 0.0,
            steps_buffered=plan.steps_after(now) if plan else 0,
            limited_share=plan.limited_steps / len(plan.due_ns) if plan else 0.0,
            tracking_error=(
                self._arm.watch.tracking_error if self._arm.is_watched else float("nan")
            ),
            intervention=self._arm.is_taken,
            transport=self.server.transport.name if self.server.transport else "",
            held_for=0.0 if plan else self._held_for(now),
            jpeg_quality=self._jpeg_quality,
        )

    def _held_for(self, now: int) -> float:
        since_ns = self._arm.player.held_since_ns
        return max(0.0, to_seconds(now - since_ns)) if since_ns else 0.0

    def _condition(self, now: int) -> Condition:
        """The state, and why; what must be repaired first comes first."""
        if is_active(self.run_state) and now <= 0 and not self.server.fault:
            return Condition(State.HOLDING, Cause.CLOCK, _NO_CLOCK.message)
        stopped = self._stopped()
        if stopped is not None:
            return stopped
        outcome, problem = self._arm.player.look(now), self._observation_problem
        if isinstance(outcome, Hold):
            return holding(problem or outcome)
        if problem is not None:
            message = f"playing what is left: {problem.message}"
            return Condition(State.RUNNING, Cause.OBSERVATION, message)
        if self.planner_error:
            doing = "acting on an old subtask" if self.subtask else "acting without a subtask"
            message = f"{doing}: {self.planner_error}"
            return Condition(State.RUNNING, Cause.PLANNER, message)
        return Condition(State.RUNNING, Cause.NONE, "")

    def _stopped(self) -> Condition | None:
        """Why the bridge sends no request; None if it does."""
        return self._arm.stopped(self.server.condition)

    @property
    def run_state(self) -> RunState:
        """Whether the robot may go, or what only a person can end."""
        return self._arm.run

    @property
    def stop(self) -> Hold | None:
        """The emergency stop or switch that keeps the robot from moving; None if none does."""
        return self._arm.stop

    @property
    def unready(self) -> str:
        """Which setting keeps the robot from moving; empty if none does."""
        return self._arm.watch.unready or ""

    @property
    def subtask(self) -> str:
        """What the planner says the robot is doing; empty if it says nothing."""
        return self._planner.text

    @property
    def observation_problem(self) -> Hold | None:
        """Why the last observation that was due could not be taken; None if it could."""
        return self._observation_problem

    @property
    def planner_error(self) -> str:
        """Why the last answer has no subtask, or an old one; empty if all is well."""
        return self._planner.error

    def take_effects(self) -> list[Effect]:
        """What to do now, in order; each effect is handed out once."""
        effects = list(self._effects)
        self._effects.clear()
        return effects


_NO_CLOCK = Hold(
    HoldKind.OBSERVATION,
    "no message on /clock yet: use_sim_time is true, and ROS time has not begun; start the "
    "simulator or the bag (`ros2 bag play --clock`), or set use_sim_time to false",
)
_HOLD_KINDS = {
    FailureKind.TIMEOUT: HoldKind.LATE,
    FailureKind.SERVER: HoldKind.REFUSED,
    FailureKind.PREPARE: HoldKind.OBSERVATION,
}
