"""Settings of how a model computes: data type, graph switches, real-time chunking.

Each group converts to the dataclass that the models take; a test holds names and defaults equal.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from openpi_flash_models.actions.rtc import RtcOptions
from openpi_flash_models.model.rearrangements import Rearrangements

Switch = Annotated[bool, Field(strict=True)]
Dtype = Literal["auto", "bfloat16", "float32", "float8", "int8"]
Tokens = Annotated[int, Field(strict=True, ge=1)]

LIVE: JsonDict = {"live": True}
"""`json_schema_extra` of a field that takes effect without loading a model or opening a port."""

DTYPE = (
    "the data type that the model computes in; auto is float32 on a CPU, else bfloat16; float8 and "
    "int8 are weights of eight bits, computed with as by auto, in JAX only"
)


class Settings(BaseModel):
    """A group of fields; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class GraphSettings(Settings):
    """Switches of the exact rearrangements (docs/models.md), to compare."""

    drop_padding: Switch = Field(
        default=True, description="leave masked cameras and prompt padding out"
    )
    token_buckets: tuple[Tokens, ...] | None = Field(
        default=None,
        description="prompt lengths, besides the longest, to compile programs for, in rising "
        "order; the default depends on the device",
    )
    uint8_images: Switch = Field(default=True, description="send images to the device as uint8")
    batch_cameras: Switch = Field(default=True, description="one vision call for all cameras")
    keys_only_last_layer: Switch = Field(
        default=True, description="compute only keys and values in the prefix's last layer"
    )
    fuse_projections: Switch = Field(
        default=True,
        description="one matrix product for query, key and value, one for gate and up",
    )
    modulate_once: Switch = Field(
        default=True,
        description="compute what depends on the flow time alone once for all steps",
    )
    static_cache: Switch = Field(
        default=True,
        description="read the prefix's keys and values in place, without a copy in each step",
    )
    unroll_layers: Switch = Field(
        default=True, description="write the layers out in the program instead of looping over them"
    )
    static_steps: Switch | None = Field(
        default=None,
        description="a program of its own for ten steps, which does not ask the host after every "
        "step; the default is true on a GPU",
    )
    fused_kernels: Switch | None = Field(
        default=None,
        description="attention and a step's layers in kernels made for them; the default is true "
        "on a GPU of NVIDIA's, and nothing else has them",
    )

    @field_validator("token_buckets")
    @classmethod
    def _rise(cls, buckets: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if any(first >= second for first, second in pairwise(buckets or ())):
            raise ValueError(f"must rise from one to the next, got {list(buckets or ())}")
        return buckets

    def options(self, of_device: Rearrangements) -> Rearrangements:
        """The options that the models take.

        Args:
            of_device: the device's defaults, for what is not set and depends on it.
        """
        return of_device.switched(**self.model_dump(exclude_none=True))


class RtcSettings(Settings):
    """Real-time chunking (docs/models.md)."""

    method: Literal["identity", "vjp", "prefix", "off"] = Field(
        default="identity",
        description="how the previous chunk guides the new one: identity pulls each action by its "
        "own error, vjp by the gradient through the model, prefix is for checkpoints trained with "
        "it; off refuses requests with rtc",
    )
    schedule: Literal["exp", "linear", "ones", "zeros"] = Field(
        default="exp", description="how the guidance weight falls over steps that are not frozen"
    )
    max_guidance: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=10.0,
        description="the largest guidance weight; as many as there are denoising steps",
    )

    def options(self) -> RtcOptions | None:
        """The options that the models take; None if RTC is off."""
        if self.method == "off":
            return None
        return RtcOptions(self.method, self.schedule, self.max_guidance)
