"""Which model a slot serves, and how another one takes its place.

Beside the former: it goes on until the other is warm, and no request notices. After the former:
its memory is freed first, and requests are refused as not ready meanwhile. If the other cannot be
loaded, the former serves, loaded again where it was unloaded.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from openpi_flash_models.errors import CheckpointError, DownloadError, InferenceConfigError
from openpi_flash_server.admin.administered import SwapFailed, SwapRefused
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.field_types import ReloadMemory
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.serving.contract_change import contract_changes
from openpi_flash_server.serving.endpoint import Endpoint, StartError
from openpi_flash_server.serving.loading import LoadedSlot
from openpi_flash_server.serving.model_memory import give_back_memory
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.runner import Runner

log = EventLogger(__name__)


S = TypeVar("S", ActionSettings, PlannerSettings)


@dataclass(frozen=True)
class SwapSteps(Generic[S]):
    """What a service does for a swap.

    Attributes:
        load: the slot with the model of the settings, loaded and warm, under a key of the library.
        release: ends the use of a key.
        serves: notes the settings and the metadata that serve from now on; returns what clients
            are told.
        unless_closed: calls its argument, unless the service stops; returns whether it did.
    """

    load: Callable[[S, Hashable], LoadedSlot]
    release: Callable[[Hashable], None]
    serves: Callable[[S, Mapping[str, Any]], Mapping[str, Any]]
    unless_closed: Callable[[Callable[[], None]], bool]


class ModelSwap(Generic[S]):
    """The model of one slot. May be used from any thread; one swap of a server runs at a time.

    Args:
        endpoint: of the slot.
        settings: of the model that it opens with, and its key in the library.
        steps: what the service does.
        swapping: held while a swap runs; all swaps of a server have the same.
    """

    def __init__(
        self, endpoint: Endpoint, settings: S, steps: SwapSteps[S], swapping: threading.Lock
    ) -> None:
        self._endpoint = endpoint
        self._steps: SwapSteps[S] = steps
        self._settings: S = settings
        self._held: Hashable | None = settings
        # each load has a number: the same directory may hold other weights the next time
        self._numbers = itertools.count(1)
        self._swapping = swapping
        self._lost: Runner | None = None

    @property
    def settings(self) -> S:
        """Of the model that serves, or that served last."""
        return self._settings

    def reload(
        self, checkpoint_dir: str | None = None, memory: ReloadMemory | None = None
    ) -> Mapping[str, Any]:
        """Serves with another checkpoint, or with the one in force, read again.

        Args:
            checkpoint_dir: of the other; None: the one in force.
            memory: whether there is room for both; None: as configured.

        Returns:
            What clients are told from now on.

        Raises:
            SwapRefused: a swap is under way, or the slot has no model yet or stops.
            SwapFailed: the other cannot serve.
        """
        settings = self._settings
        if checkpoint_dir is not None:
            settings = settings.model_copy(update={"checkpoint_dir": checkpoint_dir})
        return self.swap(settings, memory or settings.reload_memory)

    def swap(self, settings: S, memory: ReloadMemory) -> Mapping[str, Any]:
        """As `reload`, with all settings of the other model."""
        with self._alone():
            return self._swap(settings, memory)

    def unload(self) -> None:
        """Frees the model's memory; requests are refused until a reload.

        Raises:
            SwapRefused: a swap is under way, or there is no model.
            SwapFailed: the model still runs, so that its memory cannot be freed.
        """
        with self._alone():
            if not self._endpoint.slot.is_open:
                raise SwapRefused(f"the {self._endpoint.name} slot holds no model")
            self._give_up_former("unloaded by the operator, a reload serves again")
            log.info("unloaded", slot=self._endpoint.name)

    def replace_hanging(self) -> None:
        """Serves with a new instance of the model that hangs, loaded on a thread of its own.

        Without room for both nothing happens: the slot says that it hangs until the model comes
        back. Nor does it while an instance that was replaced hangs still: a third would, too.
        """
        if self._settings.reload_memory == "after":
            return
        if self._lost is not None and not self._lost.close(0):
            return

        def replace() -> None:
            # the log has said why
            with contextlib.suppress(SwapRefused, SwapFailed), self._alone(waits=True):
                # it may have been replaced or come back meanwhile
                if self._endpoint.slot.hangs:
                    self._swap(self._settings, "beside")

        threading.Thread(target=replace, name="replacing", daemon=True).start()

    @contextlib.contextmanager
    def _alone(self, *, waits: bool = False) -> Iterator[None]:
        if not self._swapping.acquire(blocking=waits):
            raise SwapRefused("another reload is under way, wait for its end")
        try:
            slot = self._endpoint.slot
            if not (slot.is_open or slot.stage in _WITHOUT_MODEL) or slot.stage is Stage.DRAINING:
                raise SwapRefused(f"the {self._endpoint.name} slot is {slot.stage}")
            yield
        finally:
            self._swapping.release()

    def _swap(self, settings: S, memory: ReloadMemory) -> Mapping[str, Any]:
        slot = self._endpoint.name
        started = time.monotonic()
        log.info("reloading", slot=slot, checkpoint=settings.checkpoint_dir, memory=memory)
        unloads = memory == "after" and self._endpoint.slot.is_open
        if unloads:
            self._give_up_former("warming up: another checkpoint is being loaded")
        failure = self._failure_of_switching_to(settings)
        if failure is not None:
            left = self._load_former_again() if unloads else self._what_is_left()
            raise SwapFailed(f"{failure}; {left}")
        log.info("reloaded", slot=slot, seconds=time.monotonic() - started)
        return self._endpoint.metadata or {}

    def _failure_of_switching_to(self, settings: S) -> str | None:
        """Why it failed, as text: an exception would keep the model that its traceback refers to.

        None: it did not fail.
        """
        try:
            self._load_and_switch(settings)
        except _EXPECTED as error:
            log.error("reload failed", slot=self._endpoint.name, reason=str(error))
            return str(error)
        except Exception as error:
            log.error("reload failed", slot=self._endpoint.name, exception=error)
            return f"{type(error).__name__}: {error}"
        return None

    def _load_and_switch(self, settings: S) -> None:
        key = settings, next(self._numbers)
        other = self._steps.load(settings, key)
        former: list[Runner | None] = []

        def switch() -> None:
            metadata = self._steps.serves(settings, other.metadata)
            former.append(
                self._endpoint.serve_with(
                    other.handler,
                    metadata,
                    gate=other.gate,
                    turns=other.turns,
                    replicas=other.replicas,
                )
            )

        try:
            changes = contract_changes(self._endpoint.metadata or {}, other.metadata)
            if changes:
                raise SwapFailed(
                    f"it is for another robot, restart the server with it: {', '.join(changes)} "
                    "would change under connected clients"
                )
            hung = self._endpoint.slot.hangs
            if not self._steps.unless_closed(switch):
                raise SwapFailed("the server shuts down")
        except BaseException:
            self._steps.release(key)
            raise
        held, self._held, self._settings = self._held, key, settings
        for runner in former:
            if runner is not None and not runner.close(0 if hung else _LONGEST_BATCH):
                self._lost = runner
        del runner
        former.clear()
        self._free(held)

    def _give_up_former(self, reason: str) -> None:
        hung = self._endpoint.slot.hangs
        runner = self._endpoint.slot.unload(reason)
        ended = runner.close(0 if hung else _LONGEST_BATCH)
        del runner
        held, self._held = self._held, None
        self._free(held)
        if not ended:
            raise SwapFailed("the model still runs, its memory is freed when it ends")

    def _free(self, held: Hashable | None) -> None:
        if held is not None:
            self._steps.release(held)
        give_back_memory()

    def _load_former_again(self) -> str:
        failure = self._failure_of_switching_to(self._settings)
        if failure is not None:
            self._endpoint.slot.lacks_model(f"a reload failed, and so did the way back: {failure}")
        return self._what_is_left()

    def _what_is_left(self) -> str:
        if self._endpoint.slot.is_open:
            return "the former checkpoint serves"
        return "nothing is loaded"


_WITHOUT_MODEL = (Stage.UNLOADED, Stage.FAILED)

_EXPECTED = (StartError, SwapFailed, CheckpointError, DownloadError, InferenceConfigError)
"""Their text says all; others are logged with their traceback."""

_LONGEST_BATCH = 60.0
"""s that a replaced model may still run."""
