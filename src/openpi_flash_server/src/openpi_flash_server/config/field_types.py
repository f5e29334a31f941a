"""Types of fields that several groups of settings have, and what they say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
"""0 lets the system choose; the log at the start names the port."""

Text = Annotated[str, Field(strict=True, min_length=1)]

SocketPath = Annotated[str, Field(strict=True, min_length=1, max_length=107)]
"""As long as the system allows for the path of a socket."""

ServerId = Annotated[str, Field(strict=True, pattern=r"^0x[0-9a-f]{16}$")]
"""As AWS writes the server id of a target behind a QUIC listener."""

ReloadMemory = Literal["beside", "after"]
"""Whether the device has room for two checkpoints at a time."""

RELOAD_MEMORY = (
    "how another checkpoint takes this one's place (docs/operate.md): beside loads it while this "
    "one serves, and needs memory for both; after frees the memory first"
)

WatchdogSeconds = Annotated[float, Field(strict=True, ge=0, le=3600, allow_inf_nan=False)]

WATCHDOG = (
    "how long a call of the model may take, s: its requests then fail, and the slot takes no "
    "others until the model comes back or is replaced; 0 waits for ever"
)
