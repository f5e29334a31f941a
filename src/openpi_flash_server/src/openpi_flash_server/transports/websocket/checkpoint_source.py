"""What a session needs of the server: a slot that answers with one certain checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from openpi_flash_server.slot.slot import Slot


@dataclass(frozen=True, slots=True)
class Lease:
    """A checkpoint that a session uses.

    Attributes:
        name: of the checkpoint.
        directory: where it lies: the experiment.
        config_name: the inference config.
        slot: answers with it.
        digest: of its weights, for the slot to refuse requests if others answer; None if unknown.
        release: to be called once, when the session ends.
    """

    name: str
    directory: str
    config_name: str
    slot: Slot
    digest: str | None
    release: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A checkpoint that a session cannot have, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A session's request for a checkpoint.

    Attributes:
        status: `loading` or `waiting`, and a line for people.
        cancel: the session is gone; a lease that comes all the same is released.
    """

    status: Callable[[], tuple[str, str]]
    cancel: Callable[[], None]


class CheckpointSource(Protocol):
    """The checkpoints of a server. May be called from any thread."""

    def names(self) -> list[str]:
        """Those that a session may ask for; may read a disk."""

    def request(self, name: str | None, ready: Callable[[Lease | Unavailable], None]) -> Waiting:
        """Asks for a checkpoint by its name; None is the server's own.

        `ready` is called once, now or later, on any thread, unless the request was cancelled.
        """
