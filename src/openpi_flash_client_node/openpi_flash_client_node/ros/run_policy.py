"""The action `~/run_policy`, and its twins `~/start` and `~/cancel` for who cannot call actions.

What a goal does is in `GoalRun`. A goal is executed by no coroutine: rclpy would poll one that
waits, and take a core for it. It ends when `settle` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from rclpy.action.server import ActionServer, CancelResponse, GoalResponse
from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from openpi_flash_client_node.ros.rclpy_versions import takes_result
from openpi_flash_msgs.action import RunPolicy
from openpi_flash_msgs.srv import SetPrompt
from openpi_flash_robot.bridge.goal_run import EndReason, Goal, GoalEnd, GoalRun
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.nanoseconds import from_stamp

_STARTED_BY_SERVICE = "~/start"
_SUCCEEDED = (EndReason.COMPLETED, EndReason.TIMEOUT)


class RunPolicyServer:
    """Serves goals of one configuration of the node."""

    def __init__(
        self,
        node: LifecycleNode,
        goals: GoalRun,
        *,
        now: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        """Offer the action and the two services.

        Args:
            node: offers them.
            goals: what they act on.
            now: this moment on the ROS clock, nanoseconds.
            changed: called after a goal has begun or was canceled, so that it takes effect at once.
        """
        self._node = node
        self._goals = goals
        self._now = now
        self._changed = changed
        self._handles: dict[Hashable, Any] = {}
        self._canceled_by_client: set[Hashable] = set()
        self._canceling: list[GoalEnd] = []
        self._server = _ResultLater(  # type: ignore[no-untyped-call]
            node,
            RunPolicy,
            "~/run_policy",
            execute_callback=_never_called,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        self._services = [
            node.create_service(SetPrompt, "~/start", self._on_start),
            node.create_service(Trigger, "~/cancel", self._on_cancel_service),
        ]

    def settle(self) -> None:
        """Tell the clients of the goals that have ended. Call it after whatever may end one."""
        waiting, self._canceling = self._canceling, []
        for end in waiting + self._goals.take_ends():
            handle = self._handles.get(end.goal_id)
            if handle is None:
                self._node.get_logger().info(_line(end))
            elif end.goal_id in self._canceled_by_client and not handle.is_cancel_requested:
                self._canceling.append(end)  # rclpy notes it after `_on_cancel`
            else:
                del self._handles[end.goal_id]
                self._canceled_by_client.discard(end.goal_id)
                self._finish(handle, end)

    def show(self, status: Status, subtask: str) -> None:
        """Send the feedback of the running goal."""
        goal = self._goals.goal
        handle = self._handles.get(goal.goal_id) if goal is not None else None
        if handle is None:
            return
        handle.publish_feedback(
            RunPolicy.Feedback(
                sequence=status.sequence,
                steps_buffered=status.steps_buffered,
                subtask=subtask,
                state=int(status.state),
                cause=int(status.cause),
                elapsed=self._goals.elapsed,
            )
        )

    def destroy(self) -> None:
        """Take the action and the services away; goals have ended before."""
        for service in self._services:
            self._node.destroy_service(service)
        self._server.destroy()

    # --- the action ---

    def _on_goal(self, request: RunPolicy.Goal) -> GoalResponse:
        refusal = self._goals.refusal()
        if request.max_duration.sec < 0:
            refusal = f"max_duration is {request.max_duration.sec} s, expected 0 or more"
        if not refusal:
            return GoalResponse.ACCEPT
        self._node.get_logger().warning(f"a goal of run_policy was rejected: {refusal}")
        return GoalResponse.REJECT

    def _on_accepted(self, handle: Any) -> None:
        handle.execute()
        goal_id = _id_of(handle)
        self._handles[goal_id] = handle
        duration = handle.request.max_duration
        duration_ns = from_stamp(duration.sec, duration.nanosec)
        self._goals.begin(self._now(), Goal(goal_id, handle.request.prompt, duration_ns))
        self._changed()

    def _on_cancel(self, handle: Any) -> CancelResponse:
        if not self._goals.cancel(self._now(), _id_of(handle)):
            return CancelResponse.REJECT
        self._canceled_by_client.add(_id_of(handle))
        self._changed()
        return CancelResponse.ACCEPT

    def _finish(self, handle: Any, end: GoalEnd) -> None:
        if end.reason in _SUCCEEDED:
            finish = handle.succeed
        elif end.reason is EndReason.CANCELED and handle.is_cancel_requested:
            finish = handle.canceled
        else:
            finish = handle.abort
        result = RunPolicy.Result(reason=int(end.reason), message=end.message, elapsed=end.elapsed)
        if takes_result(finish):
            finish(result)
        else:
            finish()
            self._server.notify_execute(handle, lambda _: result)
        self._node.get_logger().info(_line(end))

    # --- its twins ---

    def _on_start(
        self, request: SetPrompt.Request, response: SetPrompt.Response
    ) -> SetPrompt.Response:
        refusal = self._goals.refusal()
        if not refusal:
            goal = Goal(_STARTED_BY_SERVICE, request.prompt)
            self._goals.begin(self._now(), goal, anew=request.reset)
            self._changed()
        response.success = not refusal
        response.message = refusal or "the goal runs until ~/cancel"
        return response

    def _on_cancel_service(
        self, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        response.success = self._goals.cancel(self._now())
        response.message = "canceled: the robot holds" if response.success else "no goal runs"
        self._changed()
        return response


class _ResultLater(ActionServer):
    """An action server whose goals execute without a task, until they are given their result."""

    _is_closed = False

    def notify_execute(self, goal_handle: Any, execute_callback: Any) -> None:
        if execute_callback is None:
            return
        giving: Any = self._execute_goal(  # type: ignore[no-untyped-call]
            execute_callback, goal_handle
        )
        try:
            giving.send(None)  # at once: nothing in it waits
        except StopIteration:
            return
        giving.close()
        raise AssertionError("the result of a goal was waited for")

    def _send_result_response(self, request_header: Any, future: Any) -> None:
        if not self._is_closed:
            super()._send_result_response(  # type: ignore[no-untyped-call]
                request_header, future
            )

    def destroy(self) -> None:
        self._is_closed = True
        super().destroy()  # type: ignore[no-untyped-call]


def _id_of(handle: Any) -> bytes:
    return bytes(handle.goal_id.uuid)


def _line(end: GoalEnd) -> str:
    return f"the goal has ended after {end.elapsed:.1f} s: {end.reason.name}: {end.message}"


def _never_called(_: Any) -> RunPolicy.Result:
    raise AssertionError("goals get their result from settle")
