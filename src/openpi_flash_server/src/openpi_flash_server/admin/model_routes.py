"""Pages of the operator's port that load and unload models.

Both need a JSON body: a web page elsewhere cannot make a browser send one without asking first.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from openpi_flash_server.admin.administered import Administered, Swap, SwapFailed, SwapRefused
from openpi_flash_server.config.field_types import ReloadMemory


class Reload(BaseModel):
    """What to serve from now on."""

    model_config = ConfigDict(extra="forbid")

    checkpoint_dir: Annotated[str, Field(strict=True, min_length=1, max_length=4096)] | None = (
        Field(default=None, description="the checkpoint; left out: the one in force, read again")
    )
    memory: ReloadMemory | None = Field(
        default=None,
        description="beside: while the former serves; after: its memory is freed first; left out: "
        "as the reload_memory of its configuration says",
    )


class Unload(BaseModel):
    """Nothing to say: an object without keys."""

    model_config = ConfigDict(extra="forbid")


class Serving(BaseModel):
    """What serves now."""

    model: str = Field(description="the model")
    checkpoint: dict[str, str] | None = Field(description="its name and digest, if it has one")


def add_model_routes(app: FastAPI, server: Administered) -> None:
    """Adds `/slots/{slot}/reload` and `/slots/{slot}/unload`."""

    @app.post("/slots/{slot}/reload", tags=["models"])
    def reload(slot: str, wanted: Reload) -> Serving:
        """Serves with another checkpoint; answers when it does. 409: not now, or it cannot."""
        swap = _swap(server, slot)
        try:
            metadata = swap.reload(wanted.checkpoint_dir, wanted.memory)
        except (SwapRefused, SwapFailed) as error:
            raise HTTPException(409, str(error)) from None
        return Serving(model=metadata.get("model", ""), checkpoint=metadata.get("checkpoint"))

    @app.post("/slots/{slot}/unload", tags=["models"])
    def unload(slot: str, wanted: Unload) -> dict[str, Any]:
        """Frees a model's memory; its requests are refused until a reload. 409: not now."""
        del wanted
        try:
            _swap(server, slot).unload()
        except (SwapRefused, SwapFailed) as error:
            raise HTTPException(409, str(error)) from None
        return {}


def _swap(server: Administered, slot: str) -> Swap:
    if slot not in server.swaps:
        raise HTTPException(404, f"no such slot, this server has: {', '.join(server.swaps)}")
    return server.swaps[slot]
