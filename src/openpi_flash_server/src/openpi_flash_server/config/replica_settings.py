"""The settings of replicas: copies of the action slot's policy in processes of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from openpi_flash_server.config.field_types import Text
from openpi_flash_server.config.model_settings import Settings

Gpus = Annotated[float, Field(strict=True, ge=0, le=16, allow_inf_nan=False)]


class RaySettings(Settings):
    """Replicas as actors of Ray (docs/scaling.md)."""

    address: Text | None = Field(
        default=None,
        description="the cluster, such as 10.0.0.7:6379; none: RAY_ADDRESS, else a Ray of this "
        "machine that starts and ends with the server",
    )
    gpus_per_replica: Gpus | None = Field(
        default=None,
        description="GPUs that Ray keeps for each replica, 0.5 for two on one; none: 1 where the "
        "cluster has any, else 0",
    )
    requests_in_flight: Annotated[int, Field(strict=True, ge=1, le=2)] = Field(
        default=1,
        description="calls that a replica may have: with 2 the next waits in its process, which "
        "hides the way there; but a newer observation cannot replace it any more",
    )
