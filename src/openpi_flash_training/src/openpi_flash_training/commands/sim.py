"""`openpi-flash sim`: a policy server, or a person, moves the simulated arm in real time."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openpi_flash_robot.link.transport import PolicyConnection
    from openpi_flash_training.live.session import EpisodeEnd
    from openpi_flash_training.live.simulated_arm import SimulatedArm


class Transport(enum.StrEnum):
    """How to reach the server: auto is QUIC, or WebSocket; session is Positronic's API."""

    AUTO = "auto"
    QUIC = "quic"
    WEBSOCKET = "websocket"
    SESSION = "session"


def sim(
    server: Annotated[
        str | None,
        typer.Argument(help="HOST or HOST:PORT of the policy server.", metavar="[HOST:PORT]"),
    ] = None,
    *,
    transport: Annotated[Transport, typer.Option(help="How to reach it.")] = Transport.AUTO,
    expert: Annotated[
        bool, typer.Option("--expert", help="The scripted expert instead of a server.")
    ] = False,
    api_key_file: Annotated[Path | None, typer.Option(help="Holds the server's key.")] = None,
    server_fingerprint: Annotated[
        str | None, typer.Option(help="Of the server's certificate.")
    ] = None,
    task: Annotated[str, typer.Option(help="touch, pick or place: what is judged.")] = "pick",
    cube: Annotated[
        str | None, typer.Option(help="red, green or blue; else they take turns.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the policy is told, instead of the task's words.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the starts.")] = 0,
    simulation_time: Annotated[
        float | None, typer.Option(min=0.5, help="Seconds of an episode; else by its task.")
    ] = None,
    method: Annotated[str, typer.Option(help="How chunks are played.")] = "latest",
    execution_horizon: Annotated[
        int, typer.Option(min=0, help="Steps of a chunk before the next request.")
    ] = 4,
    action_rate_hz: Annotated[
        float, typer.Option(min=0, help="Steps per second, where the server does not say it.")
    ] = 0.0,
    output_dir: Annotated[
        Path | None, typer.Option(help="Record the episodes as a new LeRobot dataset.")
    ] = None,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Frames per second recorded.")] = 10,
    image_size: Annotated[int, typer.Option(min=16, help="Edge of recorded pictures.")] = 112,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print what the runner does.")] = False,
) -> None:
    """Run a policy on the simulated arm in real time, without ROS, and record what it does.

    On a terminal the keys are: t take the arm and give it back, w s a d r f move the hand, space
    opens or closes the gripper, n ends the episode, q ends the run. Frames in which a person had
    the arm are true in the column intervention; all frames have the expert's chunk as a label.
    """
    from openpi_flash_robot.settings.parameter_kinds import ParameterError
    from openpi_flash_training.commands.simulation_errors import one_line_errors
    from openpi_flash_training.demonstrations.recording import DatasetRecorder
    from openpi_flash_training.evaluation.arm_settings import arm_settings
    from openpi_flash_training.live.jog import HELP
    from openpi_flash_training.live.keyboard import Keyboard
    from openpi_flash_training.live.session import LivePlan, LiveSession
    from sim_robot.gl_backend import choose_gl_backend
    from sim_robot.robot import COLOURS, CUBES
    from sim_robot.tasks import TASKS

    if (server is None) is not expert:
        raise typer.BadParameter("name a server, as in 10.0.0.5 or 10.0.0.5:5555, or --expert")
    if task not in TASKS:
        raise typer.BadParameter(f"{task!r} is not one of {', '.join(TASKS)}")
    if cube is not None and cube not in COLOURS:
        raise typer.BadParameter(f"{cube!r} is not one of {', '.join(COLOURS)}")
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.ERROR)
    try:
        settings = arm_settings(
            **_link(server, transport.value, api_key_file, server_fingerprint),
            chunk_method=method,
            execution_horizon=execution_horizon,
            action_rate_hz=action_rate_hz,
            # a person at the keyboard
            takeover_topic="keyboard",
            teleop_topic="keyboard",
            # a software renderer on a busy machine is slower than a camera
            max_observation_age=0.5,
            max_camera_skew=0.1,
        )
    except ParameterError as error:
        raise typer.BadParameter(str(error)) from None
    plan = LivePlan(
        task=task,
        cube=None if cube is None else CUBES[COLOURS.index(cube)],
        episodes=episodes,
        seed=seed,
        seconds=simulation_time,
        prompt=prompt,
        fps=fps,
        image_size=image_size,
    )
    ends: list[EpisodeEnd] = []
    with one_line_errors():
        os.environ["MUJOCO_GL"] = choose_gl_backend()
        recorder = None
        with contextlib.ExitStack() as held:
            if output_dir is not None:
                recorder = DatasetRecorder(output_dir, fps, plan.horizon, image_size)
                held.callback(recorder.close)
            keyboard = held.enter_context(Keyboard())
            if keyboard.is_open:
                typer.echo(HELP)
            connection = _connection(server, is_expert=expert, transport=transport)
            for end in LiveSession(settings, plan, keyboard, recorder, connection=connection).run():
                typer.echo(_line(end))
                ends.append(end)
    done = sum(end.progress.outcome.value == "success" for end in ends)
    typer.echo(f"{done} of {len(ends)} episodes done")
    if recorder is not None and recorder.episodes:
        typer.echo(f"recorded in {output_dir}")


def _link(
    server: str | None, transport: str, api_key_file: Path | None, server_fingerprint: str | None
) -> dict[str, Any]:
    # a session is not the runner's own link, which still names its server
    link: dict[str, Any] = {"transport": "websocket" if transport == "session" else transport}
    if server is not None:
        link["server"] = server
    if api_key_file is not None:
        link["api_key_file"] = str(api_key_file)
    if server_fingerprint is not None:
        link["server_fingerprint"] = server_fingerprint
    return link


def _connection(
    server: str | None, *, is_expert: bool, transport: Transport
) -> Callable[[SimulatedArm], PolicyConnection] | None:
    """What makes the connection to the policy; None: the runner itself."""
    from openpi_flash_training.live.expert_connection import ExpertConnection
    from openpi_flash_training.live.positronic_session import PositronicSession

    if is_expert:
        return lambda arm: ExpertConnection(arm.state)
    if transport is Transport.SESSION and server is not None:
        return lambda _: PositronicSession(server)
    return None


def _line(end: EpisodeEnd) -> str:
    outcome = end.progress.outcome.value
    if outcome == "running":
        outcome = "ended by key" if end.was_ended else "time is up"
    stages = ", ".join(end.progress.reached_at) or "no stage"
    person = f", a person had the arm for {end.intervention_s:.1f} s" if end.intervention_s else ""
    return f"{end.index:>4}  {end.prompt:<32} {outcome:<13} {end.seconds:>5.1f} s  {stages}{person}"
