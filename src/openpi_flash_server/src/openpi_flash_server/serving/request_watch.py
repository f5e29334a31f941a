"""What happens to requests besides their answers: they are recorded, and copied to a shadow."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.live_prompts import LivePrompts
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.handlers.combined import prompt_reader
from openpi_flash_server.serving.endpoint import Endpoint
from openpi_flash_server.serving.loading import default_prompt_of
from openpi_flash_server.serving.recordings import make_recorder
from openpi_flash_server.shadow.shadow import Shadow
from openpi_flash_server.shadow.shadowing_handler import ShadowingHandler
from openpi_flash_server.slot.runner import Handler
from openpi_flash_server.slot.slot import Slot


class RequestWatch:
    """The recorder and the shadow of a service, if its configuration wants them.

    Args:
        config: what is served.
        prompts: in force for all slots.

    Raises:
        StartError: the directory of recordings cannot be written to.
    """

    def __init__(self, config: ServerConfig, prompts: LivePrompts) -> None:
        self._action = config.action if config.planner is not None else None
        self._prompts = prompts
        self._shadow_settings = config.shadow_action
        self._shadow_handler: Handler | None = None
        self.recorder = make_recorder(config)
        self.shadow: Shadow | None = None

    def attach(self, endpoint: Endpoint) -> None:
        """Watches the requests of an endpoint's slot from now on."""
        if self.recorder is not None:
            endpoint.slot.subscribe(self.recorder.listener(endpoint.name))
        if self._shadow_settings is not None and endpoint.name == "action":
            record = None if self.recorder is None else self.recorder.record
            prompt_of = None
            if self._action is not None:
                prompt_of = prompt_reader(self._prompts, default_prompt_of(self._action))
            self.shadow = Shadow(endpoint.slot, record=record, prompt_of=prompt_of)
            endpoint.slot.subscribe(self.shadow.listen)

    def attach_checkpoint(self, slot: Slot) -> None:
        """Records the requests of a slot for another checkpoint."""
        if self.recorder is not None:
            slot.subscribe(self.recorder.listener(slot.name))

    def load_shadow(self, load: Callable[[ActionSettings], Handler]) -> None:
        """Loads the shadow's policy with `load`, if there is one."""
        if self._shadow_settings is not None:
            self._shadow_handler = load(self._shadow_settings)

    def serves(self, slot: Slot, metadata: Mapping[str, Any]) -> None:
        """Notes for the record what a slot serves, and makes its requests repeatable."""
        if self.recorder is not None:
            self.recorder.describe(slot.name, metadata)
        if self.recorder is not None or self.shadow is not None:
            # with a seed, the same request gets the same answer again
            can_be_repeated = "seed" in metadata.get("supports", ())
            slot.choose_seeds(_new_seed if can_be_repeated else None)

    def beside_shadow(self, slot: str, handler: Handler) -> Handler:
        """The handler of a slot; that of the action slot with the shadow's policy beside it."""
        if self._shadow_handler is None or slot != "action":
            return handler
        return ShadowingHandler(handler, self._shadow_handler)

    def log_summary(self) -> None:
        """Logs what the shadow's comparisons came to since the last call."""
        if self.shadow is not None:
            self.shadow.log_summary()

    def close_shadow(self, timeout: float) -> None:
        """Copies no further request."""
        if self.shadow is not None:
            self.shadow.close(timeout)

    def close_recorder(self) -> None:
        """Writes the last records; a disk that hangs does not hold up the stop."""
        if self.recorder is not None:
            self.recorder.close(timeout=_LAST_RECORDS)


def _new_seed() -> int:
    return random.getrandbits(32)


_LAST_RECORDS = 2.0
"""s for the records that are not written yet when the server stops."""
