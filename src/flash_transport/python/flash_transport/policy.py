"""The interface of every client of a policy server, over any transport."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flash_transport.first_actions import FirstActions, checked_steps, first_actions_of
from flash_transport.futures import InferenceFuture
from flash_transport.link_estimate import LinkEstimate
from flash_transport.open_loop import OpenLoop, horizon_from
from flash_transport.stats import NO_CALL, CallStats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PolicyClient"]

Convert = Callable[[dict[str, Any]], dict[str, Any]]


class PolicyClient(abc.ABC):
    """A client of a policy that runs on a server.

    `FlashTransportPolicy` (QUIC, or a unix socket) and `WebsocketPolicy` are subclasses; code for
    one works with all of them. Any number of threads may share one.

    A wrong `api_key` is an error of the constructor or of the first call. A lost connection
    costs the requests it carried: the next one reconnects, with growing pauses, as long as
    `connect_timeout` and its own `timeout` allow. A request that the server may have begun is never
    sent a second time.

    Args:
        open_loop_horizon: play this many steps of each action chunk before asking again; see
            `flash_transport.open_loop`. 0 hands out whole chunks; None does so, too, unless the
            environment variable `OPENPI_OPEN_LOOP_HORIZON` holds a number.
    """

    def __init__(self, open_loop_horizon: int | None = None) -> None:
        horizon = horizon_from(open_loop_horizon, os.environ)
        self._open_loop = None if horizon is None else OpenLoop(horizon)

    def infer(self, observation: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Sends an observation and waits for the policy's answer.

        Args:
            observation: cameras, joints and prompt under the keys that the policy expects. It is
                not changed. Large arrays are sent without a copy: do not let other threads write
                to them meanwhile.
            timeout: seconds for everything, connecting included. After that, the server is told
                and drops the request.

        Returns:
            The answer, exactly as the server sent it; its arrays are read-only. With an open-loop
            horizon: one step of it.

        Raises:
            Timeout: the answer did not come in time, and will not come later.
            Disconnected: the connection was lost, or could not be made again in time.
            ServerError: the server could not answer this request. `not_ready`: it was not ready
                within `timeout`, or within `connect_timeout` without one.
            Superseded: a newer observation of the session took this one's place.
            AuthenticationFailed: the server does not accept `api_key`.
            UntrustedServer: the server is not the trusted one.
            CodecError: the observation cannot be packed, or the answer is not valid.
        """
        if self._open_loop is None:
            return self._infer(observation, timeout)
        return self.infer_with_stats(observation, timeout)[0]

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> tuple[dict[str, Any], CallStats]:
        """As `infer`, also returns the cost of the call.

        Raises:
            What `infer` raises.
        """
        if self._open_loop is None:
            return self._infer_with_stats(observation, timeout)
        step = self._open_loop.step(observation)
        if step is not None:
            return step, NO_CALL
        keep = self._keeper(self._open_loop, observation)
        answer, stats = self._infer_with_stats(observation, timeout)
        return keep(answer), stats

    def submit(
        self,
        observation: dict[str, Any],
        timeout: float | None = None,
        *,
        first_actions: int | None = None,
    ) -> InferenceFuture:
        """Sends an observation and returns at once.

        The newest observation of a session wins: an older one ends in `Superseded` if the server
        does not have it yet (no connection, not ready, still being sent), or has it in its queue.
        The one that the policy works on is answered.

        Args:
            observation: as for `infer`. It is packed before this returns, and may then be changed.
            timeout: as for `infer`; the future then ends in `Timeout`.
            first_actions: so many steps of the chunk are wanted as soon as they are final; the
                future's `first_actions` gets them. They come ahead of the rest over QUIC and on a
                unix socket, where the server's `supports` lists `first_actions`; elsewhere with the
                answer. With an open-loop horizon they are one step, as the answer is.

        Returns:
            The future of the answer, or of one of the errors that `infer` raises.

        Raises:
            CodecError: the observation cannot be packed.
            Disconnected: this client is closed.
            ValueError: `first_actions` is no whole number from 1 up.
        """
        steps = None if first_actions is None else checked_steps(first_actions)
        if self._open_loop is None:
            return self._submit(observation, timeout, None, _first_steps(steps))
        first = None if steps is None else FirstActions(steps, self._open_loop.first_action)
        step = self._open_loop.step(observation)
        if step is None:
            keep = self._keeper(self._open_loop, observation)
            return self._submit(observation, timeout, keep, first)
        future = InferenceFuture(first=None if steps is None else FirstActions(steps, _of_step))
        future._deliver_first(step)
        future._deliver(step, NO_CALL)
        return future

    def reset(self) -> None:
        """Starts a new episode: tells the server, and drops the action chunk that was played.

        Raises:
            What `infer` raises.
        """
        if self._open_loop is not None:
            self._open_loop.forget()
        self._reset()

    @property
    def link_estimate(self) -> LinkEstimate | None:
        """What is known of the path to the server; None if this transport does not measure it."""
        return None

    @abc.abstractmethod
    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made.

        Raises:
            What `infer` raises, if it has to wait for the metadata.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection. Requests under way, futures too, end in Disconnected."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]: ...

    @abc.abstractmethod
    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]: ...

    @abc.abstractmethod
    def _submit(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> InferenceFuture:
        """As `submit`; the future's result is `convert(answer)`."""

    @abc.abstractmethod
    def _reset(self) -> None: ...

    def _keeper(self, open_loop: OpenLoop, observation: dict[str, Any]) -> Convert:
        question = open_loop.ask(observation)

        def keep(answer: dict[str, Any]) -> dict[str, Any]:
            horizon = self.get_server_metadata().get("action_horizon")
            return open_loop.first_step(question, answer, _length(horizon))

        return keep


def _first_steps(steps: int | None) -> FirstActions | None:
    return None if steps is None else FirstActions(steps, lambda a: first_actions_of(a, steps))


def _of_step(step: Mapping[str, Any]) -> dict[str, Any]:
    """The action of a step that the client had already."""
    return {"actions": step["actions"]} if "actions" in step else {}


def _length(horizon: Any) -> int | None:
    is_length = isinstance(horizon, int) and not isinstance(horizon, bool) and horizon > 0
    return horizon if is_length else None
