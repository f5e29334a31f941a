"""The service `~/get_action_chunk`: one chunk, inferred and not played.

Its answer comes with the server's, long after the callback has returned. A coroutine would not do:
while it waits, rclpy polls it, and runs nothing else of its callback group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode

from openpi_flash_client_node.ros.messages import chunk_message
from openpi_flash_msgs.srv import GetActionChunk
from openpi_flash_robot.bridge.effects import AnswerChunk
from openpi_flash_robot.nanoseconds import from_stamp, to_seconds

Ask = Callable[[str, float], str]
"""Asks for a chunk, at (prompt, timeout in seconds); returns why not, or nothing."""


class GetActionChunkService:
    """Serves one caller at a time; others are told so."""

    def __init__(self, node: LifecycleNode, ask: Ask) -> None:
        """Offer the service.

        Args:
            node: offers it.
            ask: an `AnswerChunk` follows, unless it returns why not.
        """
        self._node = node
        self._ask = ask
        self._caller: Any = None
        self._service = node.create_service(GetActionChunk, "~/get_action_chunk", _taken)
        self._respond = self._service.send_response
        self._service.send_response = self._on_request  # type: ignore[method-assign, assignment]

    def answer(self, effect: AnswerChunk) -> None:
        """Answer who waits."""
        header, self._caller = self._caller, None
        if header is None:
            return
        response = GetActionChunk.Response(success=effect.chunk is not None, message=effect.message)
        if effect.chunk is not None:
            response.chunk = chunk_message(effect.chunk)
        self._respond(response, header)

    def destroy(self) -> None:
        """Take the service away."""
        self._node.destroy_service(self._service)

    def _on_request(self, request: GetActionChunk.Request, header: Any) -> None:
        timeout_s = to_seconds(from_stamp(request.timeout.sec, request.timeout.nanosec))
        if self._caller is not None:
            self._refuse("another chunk is being inferred; call again when it has come", header)
        elif timeout_s < 0:
            self._refuse(f"timeout is {timeout_s:g} s, expected 0 or more", header)
        else:
            self._caller = header  # before it asks: the answer may be there at once
            if refusal := self._ask(request.prompt, timeout_s):
                self._caller = None
                self._refuse(refusal, header)

    def _refuse(self, why: str, header: Any) -> None:
        self._respond(GetActionChunk.Response(success=False, message=why), header)


def _taken(request: GetActionChunk.Request, _: GetActionChunk.Response) -> GetActionChunk.Request:
    """Hand the request to `send_response`, the only one who is told the caller."""
    return request
