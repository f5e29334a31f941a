"""`openpi-flash test`: whether a server answers as it should, and what a call costs."""

from __future__ import annotations

import enum
import functools
import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpi_flash_server.commands.probe_options import (
    PROMPT,
    AsJson,
    CallTimeout,
    Mode,
    Prompt,
    RequestMode,
    Robot,
    RobotFiles,
    Wait,
    add_robot_files,
)
from openpi_flash_server.commands.server_link import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    ApiKeyFile,
    KnownServers,
    ServerFingerprint,
    ServerLink,
    Tell,
    TransportWarnings,
    Way,
    api_key_of,
    describe,
    end_with_usage,
    on_this_machine,
    say,
)

if TYPE_CHECKING:
    from openpi_flash_server.probe.calls import Calls
    from openpi_flash_server.probe.spread import Spread

PLANNER_PORTS = {Way.QUIC: 5556, Way.WEBSOCKET: 8002}


class Target(enum.StrEnum):
    """What to test."""

    WS = "ws"
    QUIC = "quic"
    UNIX = "unix"
    PLANNER = "planner"


def run_test(
    target: Annotated[
        Target,
        typer.Argument(
            help="The transport, or the planner's own endpoint (over QUIC; with a ws:// URI as "
            "HOST over WebSocket).",
            show_default=False,
        ),
    ],
    host: Annotated[
        str,
        typer.Argument(
            help="Name or address, as in 10.0.0.5 or [::1]:5555; for ws also ws://HOST:PORT; for "
            "unix the socket's path.",
            show_default=False,
        ),
    ],
    *,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", "--quic-port", help="Instead of 8000 (ws), 5555 (quic) or 5556 (planner)."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many calls to time.")
    ] = 20,
    warmup: Annotated[int, typer.Option(min=0, help="Calls before those that are timed.")] = 3,
    mode: RequestMode = None,
    first_actions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ask for so many steps ahead of the rest; reports the time to the first action.",
        ),
    ] = None,
    prompt: Prompt = PROMPT,
    robot: Robot = None,
    robot_file: RobotFiles = None,
    api_key_file: ApiKeyFile = None,
    server_fingerprint: ServerFingerprint = None,
    known_servers: KnownServers = None,
    timeout: CallTimeout = 30,
    wait: Wait = 10,
    as_json: AsJson = False,
) -> None:
    """Call a server some times, check its answers, and report the percentiles of the times.

    The observations are black images and zeros under the keys that the server reads: no robot
    moves. Exits with 1 if the server is not reached, or a call fails or is answered wrongly.
    """
    api_key = api_key_of(api_key_file)
    add_robot_files(robot_file)
    way = _way(target, host)
    if way is Way.UNIX:
        host = on_this_machine(host)
    if target is Target.PLANNER and port is None and not _names_port(host):
        port = PLANNER_PORTS[way]
    link = ServerLink(host, port, api_key, server_fingerprint, known_servers, wait)
    expects_actions = target is not Target.PLANNER and mode is not Mode.SUBTASK_ONLY
    result = _run(
        link,
        way,
        extra={} if mode is None or target is Target.PLANNER else {"mode": str(mode)},
        robot=robot,
        prompt=prompt,
        counts=(warmup, count),
        timeout=timeout,
        expects_actions=expects_actions,
        first_actions=first_actions if expects_actions else None,
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    raise typer.Exit(_exit_code(result))


def _run(
    link: ServerLink,
    way: Way,
    *,
    extra: Mapping[str, Any],
    robot: str | None,
    prompt: str,
    counts: tuple[int, int],
    timeout: float,
    expects_actions: bool,
    first_actions: int | None,
    quiet: bool,
) -> dict[str, Any]:
    """Connects, calls and, unless `quiet`, reports; returns the same as a JSON object."""
    from flash_transport import FlashTransportError
    from openpi_flash_server.probe.answer_check import problem_of
    from openpi_flash_server.probe.calls import Calls, call
    from openpi_flash_server.probe.observation import (
        NoObservationError,
        arrays_of,
        observation_for,
    )

    tell = _silent if quiet else say
    result: dict[str, Any] = {"transport": str(way), "server": link.host}
    first, calls = Calls(), Calls()
    warm, timed = counts
    started = time.perf_counter()
    try:
        with TransportWarnings() as warnings, link.connect(way) as client:
            metadata = client.get_server_metadata()
            result["connect_ms"] = round((time.perf_counter() - started) * 1000, 3)
            tell(way, f"connected in {result['connect_ms']:.1f} ms")
            if trust := link.trust(way, client, warnings.text):
                tell("trust", trust)
            for label, text in describe(metadata):
                tell(label, text)
                result[label] = metadata.get(label, text)
            try:
                observation = observation_for(metadata, robot, prompt) | dict(extra)
            except NoObservationError as error:
                return _failed(result, f"no call: {error}", tell)
            arrays = dict(arrays_of(observation))
            tell("observation", ", ".join(_shapes(arrays)) or "the prompt alone")
            check = functools.partial(
                problem_of, metadata=metadata, expects_actions=expects_actions
            )
            ask = functools.partial(
                call,
                client,
                observation,
                timeout=timeout,
                problem_of=check,
                first_actions=first_actions,
            )
            ask(first, count=warm)
            _say_warmup(first, tell)
            # what fails in the whole warm-up fails on
            if not first.interrupted and (first.total_ms or not warm):
                ask(calls, count=timed)
    except KeyboardInterrupt:
        calls.interrupted = True
    except ValueError as error:
        end_with_usage(str(error))
    except (FlashTransportError, OSError) as error:
        return _failed(result, f"{type(error).__name__}: {error}", tell)
    spreads = calls.spreads()
    result |= {
        "warmup_ms": [round(ms, 3) for ms in first.total_ms],
        "calls": calls.count,
        "answered": len(calls.total_ms),
        "failures": [*first.failures, *calls.failures],
        "interrupted": first.interrupted or calls.interrupted,
        "times_ms": {name: spread.as_json() for name, spread in spreads.items()},
        "request_bytes": calls.bytes_up,
        "answer_bytes": calls.bytes_down,
    }
    if first_actions is not None:
        result["first_actions_ahead"] = calls.ahead
    _report(result, calls, spreads, timed, tell)
    return result


def _report(
    result: dict[str, Any], calls: Calls, spreads: Mapping[str, Spread], wanted: int, tell: Tell
) -> None:
    if result["interrupted"]:
        tell("interrupted", f"after {result['calls']} of {wanted} calls")
    tell("calls", f"{result['answered']} of {result['calls']} answered")
    if "first_actions_ahead" in result and result["answered"]:
        ahead = result["first_actions_ahead"]
        tell("first", f"{ahead} of {result['answered']} ahead of the rest")
    for failure in dict.fromkeys(result["failures"]):
        tell("failed", f"{failure} ({result['failures'].count(failure)} times)")
    if calls.answer:
        size = f"request {_bytes(calls.bytes_up)}, answer {_bytes(calls.bytes_down)}"
        tell("bytes", size)
        tell("answer", _described(calls.answer))
    if spreads:
        names = ("min", "p50", "p90", "p99", "max")
        tell("", "".join(f"{name:>9}" for name in names) + "   ms")
        for name, spread in spreads.items():
            tell(name, "".join(f"{getattr(spread, part):9.1f}" for part in names))


def _exit_code(result: Mapping[str, Any]) -> int:
    if result.get("interrupted"):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if result["failures"] else 0


def _failed(result: dict[str, Any], failure: str, tell: Tell) -> dict[str, Any]:
    tell("failed", failure)
    return result | {"failures": [failure], "interrupted": False}


def _way(target: Target, host: str) -> Way:
    if target is Target.UNIX or host.startswith("unix:"):
        return Way.UNIX
    is_uri = host.startswith(("ws://", "wss://"))
    if target is Target.WS or (target is Target.PLANNER and is_uri):
        return Way.WEBSOCKET
    return Way.QUIC


def _names_port(host: str) -> bool:
    """Whether the host carries its port, or is a URI or a socket, which need none."""
    if "://" in host or host.startswith("unix:"):
        return True
    return "]:" in host or host.count(":") == 1


def _say_warmup(first: Calls, tell: Tell) -> None:
    if first.total_ms:
        text = f"{len(first.total_ms)} calls, the first in {first.total_ms[0]:.1f} ms"
        tell("warm-up", text)


def _shapes(arrays: Mapping[str, Any]) -> Iterator[str]:
    for key, array in arrays.items():
        yield f"{key} {array.dtype}{list(array.shape)}"


def _described(answer: Mapping[str, Any]) -> str:
    parts = []
    actions = answer.get("actions")
    if actions is not None and hasattr(actions, "dtype"):
        parts.append(f"actions {actions.dtype}{list(actions.shape)}")
    subtask = answer.get("subtask")
    if isinstance(subtask, Mapping):
        parts.append(f'subtask "{subtask.get("text")}"')
    substitute = answer.get("substitute")
    if isinstance(substitute, Mapping):
        parts.append(f"not the model's: {substitute.get('reason')}")
    return ", ".join(parts) or f"its keys: {', '.join(sorted(map(str, answer)))}"


def _bytes(size: int) -> str:
    return f"{size / 1000:.1f} kB" if size >= 1000 else f"{size} B"


def _silent(label: str, text: str) -> None:
    del label, text
