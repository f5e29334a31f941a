"""`openpi-flash plan`: how many GPUs robots need, and how fast they get answers."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.probe_options import AsJson
from openpi_flash_server.commands.server_link import say

if TYPE_CHECKING:
    from openpi_flash_server.sizing.plan import Device, Fleet, Plan

EXIT_NOT_ENOUGH = 1

ASSUMED_CALL_MS = 45.0
"""Of pi0.5 with three cameras and ten steps: others' servers publish 41 ms on an RTX PRO 5000
(vLLM-Omni 0.30) and 43 ms on an H200 (SGLang). Ours has not been measured on a GPU."""


class Encoding(enum.StrEnum):
    """How images travel."""

    RAW = "raw"
    JPEG = "jpeg"


class Model(enum.StrEnum):
    """The released models."""

    PI0 = "pi0"
    PI05 = "pi05"
    PI0_FAST = "pi0-fast"


class Dtype(enum.StrEnum):
    """What a model computes in, or keeps its weights in."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT8 = "float8"
    INT8 = "int8"


def plan(
    *,
    robots: Annotated[int, typer.Option(min=1, max=10_000, help="How many, all alike.")] = 1,
    cameras: Annotated[int, typer.Option(min=0, help="Images in a request.")] = 3,
    rate: Annotated[
        float, typer.Option(min=0.01, help="Requests per second of each robot.", metavar="<Hz>")
    ] = 2.0,
    rtt_ms: Annotated[float, typer.Option(min=0, help="The network's round trip.")] = 1.0,
    encoding: Annotated[Encoding, typer.Option(help="How images travel.")] = Encoding.RAW,
    link_mbit: Annotated[
        float, typer.Option(min=0.1, help="How fast a robot sends, Mb/s.")
    ] = 1000.0,
    call_ms: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help=f"Time of the model, `infer` of openpi-flash test [default: {ASSUMED_CALL_MS:g}, "
            "an assumption].",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=8, help="As action.max_batch.")] = 1,
    batch_cost: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1,
            help="What each further observation of a batch costs, as a part of the first.",
        ),
    ] = 1.0,
    horizon: Annotated[int, typer.Option(min=1, help="Steps of a chunk.")] = 50,
    control_hz: Annotated[
        float, typer.Option(min=0.1, help="Steps per second that a robot plays.")
    ] = 25.0,
    model: Annotated[Model, typer.Option(help="For the memory.")] = Model.PI05,
    dtype: Annotated[Dtype, typer.Option(help="For the memory.")] = Dtype.BFLOAT16,
    planner: Annotated[
        bool, typer.Option("--planner", help="A planner too, for the memory.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(min=1, help="Instead of the fewest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how many GPUs robots need, and what each robot and each GPU gets.

    An estimate for robots that ask at fixed rates without regard to each other. Measure with
    openpi-flash load before you buy. Exits with 1 if answers come too late for the control rate.
    """
    from openpi_flash_server.sizing.plan import Device, Fleet, longest_rtt_ms, weights_gb
    from openpi_flash_server.sizing.plan import plan as make_plan

    fleet = Fleet(
        robots=robots,
        rate_hz=rate,
        cameras=cameras,
        jpeg=encoding is Encoding.JPEG,
        rtt_ms=rtt_ms,
        link_mbit_s=link_mbit,
        horizon=horizon,
        control_hz=control_hz,
    )
    device = Device(call_ms or ASSUMED_CALL_MS, max_batch, batch_cost)
    found = make_plan(fleet, device, gpus=gpus)
    memory = weights_gb(model, dtype, planner=planner)
    rtt = longest_rtt_ms(fleet, found)
    if as_json:
        typer.echo(json.dumps(_as_json(fleet, device, found, memory, rtt), indent=2))
    else:
        _report(fleet, device, found, is_assumed=call_ms is None)
        _report_memory(memory, f"{model}, {dtype}{' and a planner' if planner else ''}")
        _report_verdict(fleet, found, rtt)
    raise typer.Exit(0 if found.is_enough else EXIT_NOT_ENOUGH)


def _report(fleet: Fleet, device: Device, found: Plan, *, is_assumed: bool) -> None:
    say(
        "robots",
        f"{fleet.robots}, each asks {fleet.rate_hz:g} times a second for {fleet.horizon} steps at "
        f"{fleet.control_hz:g} Hz",
    )
    other = dataclasses.replace(fleet, jpeg=not fleet.jpeg)
    say(
        "network",
        f"{fleet.request_bytes / 1e3:.0f} kB a request, {fleet.uplink_mbit_s:.1f} Mb/s a robot, "
        f"{fleet.uplink_mbit_s * fleet.robots:.0f} Mb/s in all "
        f"({'raw' if fleet.jpeg else 'as JPEG'} {other.uplink_mbit_s:.1f} Mb/s a robot)",
    )
    source = ", assumed: measure yours with openpi-flash test" if is_assumed else ""
    say("model", f"{device.call_ms:g} ms a call{source}")
    say(
        "GPUs",
        f"{found.gpus}, each for {found.robots_per_gpu} robots and {found.busy:.0%} busy",
    )


def _report_memory(memory: float, what: str) -> None:
    from openpi_flash_server.sizing.weights import WORKING_GB

    say("memory", f"{memory:.0f} GB of each GPU ({what}; {WORKING_GB:g} of it an allowance)")


def _report_verdict(fleet: Fleet, found: Plan, rtt: float) -> None:
    say("answers", f"half within {found.median_ms:.0f} ms, 99 % within {found.p99_ms:.0f} ms")
    if found.busy > 1:
        say(
            "verdict",
            f"too much: a robot gets {found.answers_hz:.2g} of {fleet.rate_hz:g} answers a second",
        )
    elif not found.is_enough and found.p99_ms <= found.limit_ms:
        say("verdict", "too close: a slow call or a reload is not caught up")
    elif not found.is_enough:
        say(
            "verdict",
            f"too late: a chunk of {fleet.chunk_ms:.0f} ms needs answers within "
            f"{found.limit_ms:.0f} ms",
        )
    else:
        say(
            "verdict",
            f"enough: a chunk of {fleet.chunk_ms:.0f} ms needs answers within "
            f"{found.limit_ms:.0f} ms; so up to a round trip of {rtt:.0f} ms",
        )


def _as_json(
    fleet: Fleet, device: Device, found: Plan, memory: float, rtt: float
) -> dict[str, Any]:
    return {
        "fleet": dataclasses.asdict(fleet),
        "device": dataclasses.asdict(device),
        "request_bytes": fleet.request_bytes,
        "uplink_mbit_s": round(fleet.uplink_mbit_s, 3),
        "memory_gb": round(memory, 2),
        **{name: round(value, 3) for name, value in dataclasses.asdict(found).items()},
        "longest_rtt_ms": round(rtt, 3),
        "is_enough": found.is_enough,
    }
