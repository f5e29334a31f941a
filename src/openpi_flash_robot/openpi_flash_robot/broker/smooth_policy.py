"""`SmoothPolicy`: `infer(observation)` returns the action that is due now, and does not wait.

In place of openpi_client's `ActionChunkBroker(WebsocketClientPolicy(host, port), horizon)`, which
stops the robot for a whole inference at the end of each chunk.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from openpi_flash_robot.broker.playback import Actions, ChunkPlayback, Due, agree_alone, player_of
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.api_key import find_api_key
from openpi_flash_robot.link.events import (
    FailureKind,
    LinkDown,
    LinkEvent,
    LinkUp,
    RequestDone,
    RequestFailure,
)
from openpi_flash_robot.link.policy_link import BuiltRequest, Job, PolicyLink, backoff
from openpi_flash_robot.link.transport import PolicyConnection, open_policy, resolve_server
from openpi_flash_robot.settings.node_settings import LinkSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import link_from_parameters
from openpi_flash_robot.settings.server_contract import parse_contract

PARAMETERS = frozenset(
    {
        "transport",
        "websocket_port",
        "insecure_fallback",
        "api_key",
        "api_key_file",
        "server_fingerprint",
        "ca_file",
        "known_servers",
        "relay",
        "relay_token_file",
        "connect_timeout",
        "reconnect_delay_max",
        "request_timeout",
        "chunk_method",
        "ensemble_decay",
        "blend_time",
        "max_chunk_age",
        "max_start_delta",
        "max_velocity",
        "max_acceleration",
        "max_jerk",
        "position_lower",
        "position_upper",
    }
)
"""Of the node's, those that mean something here."""


class PolicyError(RuntimeError):
    """There is no action to return, or, with `on_stale="raise"`, only that of a robot at rest."""


class SmoothPolicy:
    """One action per call, of chunks that are asked for while the last one is played.

    For one thread that calls `infer` at its control rate. Actions are in the policy's own units and
    columns, and must be absolute positions.
    """

    def __init__(
        self,
        server: str = "127.0.0.1",
        port: int = 0,
        *,
        state: Callable[[dict[str, Any]], Any] | None = None,
        on_stale: str = "hold",
        start_timeout: float = 60.0,
        action_dim: int | None = None,
        action_kind: str = "",
        action_rate_hz: float = 0.0,
        execution_horizon: int = 10,
        open_policy: Callable[[LinkSettings], PolicyConnection] = open_policy,
        now: Callable[[], int] = time.monotonic_ns,
        **parameters: Any,
    ) -> None:
        """Begin to connect; returns at once.

        Args:
            server: name or address of the policy server.
            port: 0 is the transport's own.
            state: where the robot is, [D] in the policy's units, by the observation; without it the
                robot begins where its first chunk begins.
            on_stale: what `infer` does while there is no chunk to play: "hold" returns the action
                that stands still, "raise" raises.
            start_timeout: seconds that `infer` waits for the first chunk.
            action_dim: columns of the actions, where the server's metadata does not say it.
            action_kind: "position" where the server does not say what its actions are.
            action_rate_hz: steps per second; 0: the server's.
            execution_horizon: steps after an observation at which the next one is sent at the
                latest.
            open_policy: makes the connection to the server.
            now: this moment on a steady clock, nanoseconds.
            parameters: those of docs/robot_parameters.md that `PARAMETERS` names; limits are in
                the policy's units.

        Raises:
            ParameterError: one of them is unknown, of the wrong type, or out of range.
            ValueError: `on_stale` is neither of the two.
        """
        if on_stale not in ("hold", "raise"):
            raise ValueError(f'on_stale is {on_stale!r}, expected "hold" or "raise"')
        foreign = sorted(set(parameters) - PARAMETERS)
        if foreign:
            known = ", ".join(sorted(PARAMETERS))
            raise ParameterError(f"SmoothPolicy has no parameter {foreign[0]}; it has {known}")
        link = resolve_server(link_from_parameters({**parameters, "server": server, "port": port}))
        key = find_api_key(link, os.environ)
        self._link_settings = replace(
            link, api_key=key.text, session=f"python-{secrets.token_hex(4)}"
        )
        self._parameters, self._state, self._raises = parameters, state, on_stale == "raise"
        self._start_timeout = start_timeout
        self._action_kind, self._action_rate_hz = action_kind, action_rate_hz
        self._action_dim, self._horizon, self._now = action_dim, execution_horizon, now
        self._actions = ""
        self._metadata: Mapping[str, Any] = {}
        self._supports: frozenset[str] = frozenset()
        self._playback: ChunkPlayback | None = None
        self._measured: Actions | None = None
        self._trouble = f"connecting to {link.server}"
        self._is_final = False
        self._problem = "the server has not answered"
        self._last_answer: dict[str, Any] = {}
        self._woken = threading.Event()
        self._link = PolicyLink(
            partial(open_policy, self._link_settings),
            wake=self._woken.set,
            delays=partial(backoff, link.reconnect_delay_max),
        )
        self._link.start()

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The action that is due now.

        Waits only for the first chunk, and for that of the first call after `reset`.

        Args:
            observation: of this moment, as the server reads it; its arrays are copied when it is
                sent.

        Returns:
            `actions`: [D]. `holding`: why they stand still, empty while a chunk is played. What
            else the last answer had, but for its arrays.

        Raises:
            PolicyError: there is no first chunk after `start_timeout`; the server lets nobody in,
                or does not fit; with `on_stale="raise"` the robot must stand.
        """
        self._turn(observation)
        due = None if self._playback is None else self._playback.due(self._now())
        if due is None:
            due = self._first(observation)
        if due.hold is not None and self._raises:
            raise PolicyError(self._reason(due.hold))
        return {
            **self._last_answer,
            "actions": due.actions,
            "holding": "" if due.hold is None else self._reason(due.hold),
        }

    def reset(self) -> None:
        """Begin a new episode: the running chunk and the policy's state are forgotten."""
        if self._playback is not None:
            self._playback.reset(self._now())
            self._link.reset()

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata; empty before it has answered for the first time."""
        return dict(self._metadata)

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def __enter__(self) -> SmoothPolicy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- one turn ---

    def _turn(self, observation: dict[str, Any]) -> None:
        """Take what has come, and ask if that is due."""
        if self._state is not None:
            self._measured = np.asarray(self._state(observation), dtype=np.float64)
        for event in self._link.events():
            self._take(event)
        playback = self._playback
        if playback is not None and not self._trouble and playback.is_due(self._now()):
            number, more = playback.ask(self._now())
            timeout = self._link_settings.request_timeout
            if "deadline_ms" in self._supports:
                more["deadline_ms"] = timeout * 1e3
            if self._link_settings.transport == "websocket" and "session" in self._supports:
                more["session"] = self._link_settings.session
            request = {**_copied(observation), **more}
            self._link.send(Job(number, lambda _: BuiltRequest(request), timeout))

    def _first(self, observation: dict[str, Any]) -> Due:
        """Wait for the first chunk."""
        deadline = self._now() + round(self._start_timeout * 1e9)
        while True:
            self._woken.clear()
            self._turn(observation)
            due = None if self._playback is None else self._playback.due(self._now())
            if due is not None:
                return due
            if self._is_final:
                raise PolicyError(self._trouble)
            if self._now() >= deadline:
                raise PolicyError(
                    f"no chunk to begin with within {self._start_timeout:g} s (start_timeout): "
                    f"{self._trouble or self._problem}"
                )
            self._woken.wait(0.05)

    def _take(self, event: LinkEvent) -> None:
        playback = self._playback
        if isinstance(event, LinkUp):
            self._agree(event.metadata)
        elif isinstance(event, LinkDown):
            self._trouble, self._is_final = event.message, event.needs_human
            if playback is not None:
                playback.lose(self._now(), Hold(HoldKind.LINK, event.message))
        elif playback is None:
            return
        elif isinstance(event, RequestDone):
            problem = playback.answer(self._now(), event.request_id, event.result, self._measured)
            if problem is not None:
                self._problem = problem.message
            self._last_answer = {
                name: value
                for name, value in event.result.items()
                if not isinstance(value, np.ndarray)
            }
        elif isinstance(event, RequestFailure) and event.kind is not FailureKind.LINK:
            self._problem = event.message
            playback.fail(self._now(), event.request_id, Hold(HoldKind.REFUSED, event.message))

    def _agree(self, metadata: Mapping[str, Any]) -> None:
        """Take a server; one whose actions are other ones than before is refused."""
        try:
            agreement = agree_alone(
                parse_contract(metadata),
                action_kind=self._action_kind,
                action_rate_hz=self._action_rate_hz,
                column_count=self._action_dim,
            )
            names = tuple(axis.meaning.name for axis in agreement.axes)
            player = player_of(self._parameters, names, is_measured=self._state is not None)
        except ValueError as error:
            self._refuse(str(error))
            return
        actions = repr((agreement.step_ns, agreement.axes))
        if self._playback is None:
            self._playback, self._actions = ChunkPlayback(agreement, player, self._horizon), actions
        elif actions != self._actions:
            self._refuse("the server's actions have changed; make a new SmoothPolicy")
            return
        self._trouble, self._is_final = "", False
        self._metadata, self._supports = dict(metadata), agreement.supports

    def _refuse(self, why: str) -> None:
        self._trouble, self._is_final = why, True
        if self._playback is not None:
            self._playback.lose(self._now(), Hold(HoldKind.LINK, why))

    def _reason(self, hold: Hold) -> str:
        is_told = self._trouble in ("", hold.message)
        return hold.message if is_told else f"{hold.message}; {self._trouble}"


def _copied(value: Any) -> Any:
    """A request that the program cannot change any more."""
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    return np.array(value) if isinstance(value, np.ndarray) else value
