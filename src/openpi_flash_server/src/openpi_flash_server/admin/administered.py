"""What the operator's port shows and changes, as its server gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from openpi_flash_server.admin.metrics import Metrics
from openpi_flash_server.admin.read_at_scrape import ComparedCopies, CountedReplicas
from openpi_flash_server.admin.session_board import SessionBoard
from openpi_flash_server.config.field_types import ReloadMemory
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.logs.log_output import Level
from openpi_flash_server.recording.recorder import Recorder
from openpi_flash_server.slot.life import Stage


class SwapRefused(Exception):  # noqa: N818 - said to the operator, and no fault of the server
    """The model cannot be replaced now; nothing has changed."""


class SwapFailed(Exception):  # noqa: N818 - likewise
    """The other model cannot serve; the message says why, and what serves now."""


class ScaledReplicas(CountedReplicas, Protocol):
    """Replicas whose number may be changed."""

    def resize(self, count: int) -> None:
        """Keeps so many from now on; those that leave run what they were given."""


class WatchedSlot(Protocol):
    """A slot with its ports."""

    @property
    def loads_on_demand(self) -> bool:
        """Whether its model is loaded when a client asks for it.

        Such a slot comes and goes; while it gets ready, the server is ready without it.
        """

    @property
    def unhealthy_because(self) -> str | None:
        """Why it does not answer requests, or not as it should; None if it does."""

    @property
    def trouble_because(self) -> str | None:
        """A problem that only a restart cures; None if there is none."""

    @property
    def stage(self) -> Stage:
        """Where it stands in its life."""

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """What its clients are told; None until it is loaded."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it listens, by link."""

    @property
    def replicas(self) -> ScaledReplicas | None:
        """That run its policy; None: it runs in the server's process."""

    @property
    def max_wait_ms(self) -> float:
        """How long a request waits for others to share its call; may be set."""

    @max_wait_ms.setter
    def max_wait_ms(self, value: float) -> None: ...

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What its transports count, by link and counter."""

    def links(self) -> Mapping[str, Mapping[str, float]]:
        """What is known of each connection's link, by the client's name.

        `rtt_ms`; for QUIC also `packets_sent`, `packets_lost`, `bytes_sent`, `bytes_received`.
        """


class Swap(Protocol):
    """Replaces the model of a slot while it serves."""

    def reload(
        self, checkpoint_dir: str | None = None, memory: ReloadMemory | None = None
    ) -> Mapping[str, Any]:
        """Serves with another checkpoint, or with the one in force, read again; blocks.

        Returns:
            What clients are told from now on.

        Raises:
            SwapRefused: not now; nothing has changed.
            SwapFailed: the other cannot serve.
        """

    def unload(self) -> None:
        """Frees the model's memory; requests are refused until a reload.

        Raises:
            SwapRefused: not now; nothing has changed.
            SwapFailed: the memory cannot be freed yet.
        """


@dataclass(frozen=True)
class Administered:
    """A server, as its operator sees it.

    Attributes:
        slots: those there are now, by their names.
        identity: mode, versions and digests, for JSON.
        prompts: may be changed.
        has_action: whether there is an action slot.
        has_planner: whether there is a planner slot.
        metrics: of all slots.
        board: the sessions of all slots.
        swaps: replace the models, by the names of their slots.
        recorder: of all slots; None if nothing is recorded.
        copies: what came of the copies for the shadow policy; None if there is none.
        set_log_level: changes it; takes `debug`, `info`, `warning` or `error`.
        log_level: the one in force.
        clock: monotonic seconds.
    """

    slots: Callable[[], Mapping[str, WatchedSlot]]
    identity: Callable[[], Mapping[str, Any]]
    prompts: LivePrompts
    has_action: bool
    has_planner: bool
    metrics: Metrics
    board: SessionBoard
    swaps: Mapping[str, Swap]
    recorder: Recorder | None
    copies: Callable[[], ComparedCopies] | None
    set_log_level: Callable[[Level], None]
    log_level: Callable[[], Level]
    clock: Callable[[], float]
