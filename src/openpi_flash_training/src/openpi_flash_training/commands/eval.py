"""`openpi-flash eval`: a policy on the simulated robot, in closed loop, or on a dataset."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openpi_flash_training.evaluation.conditions import Conditions, Trial
    from openpi_flash_training.evaluation.policy_choice import PolicyChoice
    from openpi_flash_training.evaluation.ray_cluster import RayCluster
    from openpi_flash_training.evaluation.run import Workers

GRID_DELAYS, GRID_LOSSES, GRID_HELD = "0,50,150,300", "0,0.1", "0,0.2"
GRID_METHODS = (
    "latest,temporal_ensemble,latest_only,weighted_average,average,conservative,rtc,rtc_prefix,"
    "open_loop,stop_and_go,ignore_delay"
)


class Through(enum.StrEnum):
    """What lies between the policy and the arm."""

    SIMULATION = "simulation"
    ROS = "ros"


class Transport(enum.StrEnum):
    """How to reach the server: auto is QUIC, or WebSocket where UDP is blocked."""

    AUTO = "auto"
    QUIC = "quic"
    WEBSOCKET = "websocket"


def evaluate(
    *,
    task: Annotated[
        str,
        typer.Option(
            help="touch, pick or place; several, as in touch,pick. Or aloha-transfer-cube, "
            "gym-aloha's, of the extra aloha."
        ),
    ] = "touch",
    episodes: Annotated[int, typer.Option(min=1, help="Of each task and condition.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the starts.")] = 7,
    workers: Annotated[int, typer.Option(min=1, help="Processes that play episodes.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Play and serve on a cluster of Ray: HOST:PORT of its head, auto for the one of "
            "this machine, or local to start one here.",
            metavar="ADDRESS",
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="A server that runs, HOST or HOST:PORT; several, each a policy of its own.",
            metavar="HOST:PORT",
        ),
    ] = None,
    transport: Annotated[Transport, typer.Option(help="Of --server.")] = Transport.AUTO,
    api_key_file: Annotated[Path | None, typer.Option(help="Holds the key of --server.")] = None,
    server_fingerprint: Annotated[
        str | None, typer.Option(help="Of the certificate of --server.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Serve this checkpoint here, a directory or a URL; several in one table."
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Its inference config, pi05_sim_arm if not named (pi0_aloha_sim for "
            "aloha-transfer-cube); python:MODULE:NAME; or expert, the script. Without a "
            "checkpoint: the policy that comes with the simulated robot."
        ),
    ] = None,
    planner: Annotated[
        str | None,
        typer.Option(
            help="With --checkpoint: serve this planner's checkpoint beside it, and count how "
            "often its subtask names what the scripted expert would be about."
        ),
    ] = None,
    robot_file: Annotated[
        Path | None, typer.Option(help="A file that defines the inference config or its robot.")
    ] = None,
    through: Annotated[
        Through,
        typer.Option(
            help="simulation: in simulated time, without ROS. ros: in real time, through the "
            "simulated robot and the robot's node over ROS 2, and the network of this machine."
        ),
    ] = Through.SIMULATION,
    control_hz: Annotated[
        float, typer.Option(min=1, max=1000, help="Of --through ros: commands per second.")
    ] = 50,
    speed: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1,
            help="Of --through ros: simulated seconds per second, for a machine that is too slow.",
        ),
    ] = 1,
    method: Annotated[
        str | None,
        typer.Option(help="How chunks are played; several, as in latest,rtc. [default: latest]"),
    ] = None,
    delay: Annotated[
        str | None, typer.Option(help="Round trips of the network, ms. [default: 0]")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="Shares of messages lost, 0 to 1. [default: 0]")
    ] = None,
    held: Annotated[
        str | None,
        typer.Option(help="Shares of commands that never reach the arm. [default: 0]"),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help=f"Every combination of: {GRID_METHODS}; delays {GRID_DELAYS} ms; loss "
            f"{GRID_LOSSES}; held {GRID_HELD}; where the options say nothing else.",
        ),
    ] = False,
    inference_ms: Annotated[float, typer.Option(min=0, help="Simulated time of a call.")] = 20,
    execution_s: Annotated[
        float, typer.Option(min=0.02, help="How long a chunk is played before the next request.")
    ] = 0.4,
    swap_prompts: Annotated[
        bool, typer.Option("--swap-prompts", help="Also with the next colour in the prompt.")
    ] = False,
    films: Annotated[int, typer.Option(min=0, help="Episodes filmed for the report.")] = 3,
    report: Annotated[
        Path | None, typer.Option(help="Write a report with plots and films.", metavar="FILE.html")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write the episodes as a LeRobot dataset, labelled by the expert."),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if success is lower in any plain cell."),
    ] = None,
    swapped_at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The same of prompts with the next colour."),
    ] = None,
    old_colour_at_most: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Exit with 1 if the arm goes more often to the colour before."
        ),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Compare chunks with this dataset instead, in open loop.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a policy on the simulated robot: how often it does what it is told.

    Episodes are played in simulated time: network and policy take the time that the options say,
    whatever this machine needs. With --through ros time and network are real. Without --server the
    policy is served here for as long as it is measured. --server and --checkpoint may be given
    several times, and together: every policy plays the same episodes.
    """
    from openpi_flash_training.commands.eval_cells import Gate, cells_of, print_cells
    from openpi_flash_training.commands.eval_files import opened
    from openpi_flash_training.commands.progress import frame_progress
    from openpi_flash_training.commands.simulation_errors import one_line_errors
    from openpi_flash_training.evaluation.policy_choice import name_of
    from openpi_flash_training.evaluation.run import run_policies
    from openpi_flash_training.evaluation.task_facts import ALOHA_TRANSFER_CUBE, TASK_FACTS

    tasks = _words(task, "--task", TASK_FACTS)
    servers, checkpoints = (list(dict.fromkeys(given or ())) for given in (server, checkpoint))
    is_aloha = ALOHA_TRANSFER_CUBE in tasks
    _check_policies(
        policy,
        servers,
        checkpoints,
        of_server={
            "--transport": transport is not Transport.AUTO,
            "--api-key-file": api_key_file is not None,
            "--server-fingerprint": server_fingerprint is not None,
        },
        has_robot_file=robot_file is not None,
    )
    only_ours = {
        "--policy expert": policy == "expert",
        "--through ros": through is Through.ROS,
        "--swap-prompts": swap_prompts,
        "--record": record is not None,
        "--dataset": dataset is not None,
    }
    if through is Through.ROS:
        simulated = {"--delay": delay, "--loss": loss, "--held": held, "--record": record}
        _refuse(
            {name: value is not None for name, value in simulated.items()}
            | {"--grid": grid, "--workers": workers > 1, "--ray": ray is not None},
            "not with --through ros",
        )
    if len(servers) + len(checkpoints) > 1:
        of_one = {"--report": report, "--record": record, "--dataset": dataset}
        _refuse(
            {name: value is not None for name, value in of_one.items()}
            | {"--through ros": through is Through.ROS},
            "with one policy only",
        )
    of_swapped = {
        "--swapped-at-least": swapped_at_least,
        "--old-colour-at-most": old_colour_at_most,
    }
    _refuse(
        {name: not swap_prompts and value is not None for name, value in of_swapped.items()},
        "only with --swap-prompts",
    )
    of_played = {"--record": record, "--at-least": at_least, **of_swapped}
    _refuse(
        {name: dataset is not None and value is not None for name, value in of_played.items()},
        "not with --dataset",
    )
    given = {"api_key_file": api_key_file, "server_fingerprint": server_fingerprint}
    link = {name: str(value) for name, value in given.items() if value is not None}
    with one_line_errors(), contextlib.ExitStack() as stack:
        if is_aloha:
            _check_aloha(tasks, only_ours)
        all_conditions = _conditions(
            (method, delay, loss, held),
            is_grid=grid,
            inference_ms=inference_ms,
            execution_s=execution_s,
            is_real=through is Through.ROS,
        )
        trials = _trials(
            tasks,
            episodes,
            seed,
            all_conditions,
            is_swapped=swap_prompts,
            filmed=films if report is not None else 0,
            is_recorded=record is not None,
        )
        files = stack.enter_context(opened(report, record, trials[0], workers))
        at = _workers(stack, ray, workers)
        choices = stack.enter_context(
            _policies(
                servers,
                transport.value,
                link,
                policy,
                checkpoints=checkpoints,
                planner=planner,
                robot_file=robot_file,
                is_aloha=is_aloha,
                cluster=at if ray is not None else None,
            )
        )
        if dataset is not None:
            _open_loop(choices[0], dataset, episodes, report, as_json=as_json)
            return
        names = [name_of(choice, tasks[0]) for choice in choices]
        if len(names) > 1:
            # two checkpoints of one config may have the same name: what was asked for tells them
            names = [*servers, *checkpoints]
        with frame_progress("episodes", len(trials) * len(choices)) as progress:
            if through is Through.ROS:
                from openpi_flash_training.through_ros.run import run_trials_through_ros

                (choice,) = choices
                rate = {"control_hz": control_hz, "speed": speed}
                results = [run_trials_through_ros(choice, trials, progress=progress, **rate)]
            else:
                results = run_policies(choices, trials, workers=at, progress=progress)
        cells = {name: cells_of(own) for name, own in zip(names, results, strict=True)}
        print_cells(seed, cells, as_json=as_json)
        files.write(names[0], cells[names[0]], results[0])
    Gate(at_least, swapped_at_least, old_colour_at_most).check(cells)


def _workers(stack: contextlib.ExitStack, address: str | None, count: int) -> Workers | RayCluster:
    """Where episodes are played, until the stack is closed."""
    if address is None:
        from openpi_flash_training.evaluation.worker_processes import WorkerProcesses

        return WorkerProcesses(count)
    try:
        from openpi_flash_training.evaluation.ray_cluster import RayCluster
    except ImportError:
        raise typer.BadParameter(
            "--ray needs Ray: pip install './src/openpi_flash_training[ray]'"
        ) from None
    return stack.enter_context(RayCluster(address, count))


@contextlib.contextmanager
def _policies(
    servers: Sequence[str],
    transport: str,
    link: dict[str, Any],
    policy: str | None,
    *,
    checkpoints: Sequence[str],
    planner: str | None,
    robot_file: Path | None,
    is_aloha: bool,
    cluster: Any = None,
) -> Iterator[list[PolicyChoice]]:
    """What is measured; served as long as the context lasts, on the cluster if there is one."""
    from openpi_flash_training.evaluation import server_process
    from openpi_flash_training.evaluation.served_policy import ServerChoice
    from sim_robot.shipped_policy import CONFIG, ROBOT_FILE, shipped_policy

    serving = server_process.serving if cluster is None else cluster.serving
    if planner is not None and not checkpoints:
        raise typer.BadParameter("--planner needs --checkpoint, the policy beside it")
    if policy == "expert":
        yield [None]
    elif servers or checkpoints or _is_python(policy):
        config = policy or ("pi0_aloha_sim" if is_aloha else "pi05_sim_arm")
        running: list[PolicyChoice] = [ServerChoice(one, transport, link) for one in servers]
        wanted: Sequence[str | None] = checkpoints or ([] if servers else [None])
        with contextlib.ExitStack() as stack:
            yield running + [
                stack.enter_context(serving(config, one, planner=planner, robot_file=robot_file))
                for one in wanted
            ]
    elif policy is None and not is_aloha and (shipped := shipped_policy()) is not None:
        beside = None if shipped.planner is None else str(shipped.planner)
        action = str(shipped.action)
        with serving(CONFIG, action, planner=beside, robot_file=ROBOT_FILE) as choice:
            yield [choice]
    else:
        raise typer.BadParameter(
            "name what to measure: --server HOST:PORT, --checkpoint DIR, --policy "
            "python:MODULE:NAME" + ("" if is_aloha else ", or --policy expert")
        )


def _check_policies(
    policy: str | None,
    servers: Sequence[str],
    checkpoints: Sequence[str],
    *,
    of_server: Mapping[str, bool],
    has_robot_file: bool,
) -> None:
    """Refuse what would not be measured, or says nothing about what is."""
    if policy == "expert":
        given = {"--server": bool(servers), "--checkpoint": bool(checkpoints)}
        _refuse(given, "not with --policy expert, which is measured by itself")
    if servers and not checkpoints:
        _refuse({"--policy": policy is not None}, "not with --server alone, which has its own")
    if not servers:
        _refuse(of_server, "only with --server")
    is_served = bool(checkpoints) or _is_python(policy)
    _refuse(
        {"--robot-file": has_robot_file and not is_served},
        "only with --checkpoint or --policy python:MODULE:NAME",
    )


def _is_python(policy: str | None) -> bool:
    return (policy or "").startswith("python:")


def _check_aloha(tasks: Sequence[str], refused: Mapping[str, bool]) -> None:
    """Refuse what is only there for the simulated arm with its cubes.

    Raises:
        AlohaUnavailableError: gym-aloha is not installed.
    """
    from openpi_flash_training.evaluation.aloha_transfer_cube import check_installed

    if len(set(tasks)) > 1:
        raise typer.BadParameter(f"--task: {', '.join(tasks)} cannot be measured in one run")
    _refuse(refused, f"not with --task {tasks[0]}")
    check_installed()


def _refuse(options: Mapping[str, bool], why: str) -> None:
    """Refuses those of the options that are given."""
    given = [option for option, is_given in options.items() if is_given]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: {why}")


def _conditions(
    given: tuple[str | None, str | None, str | None, str | None],
    *,
    is_grid: bool,
    inference_ms: float,
    execution_s: float,
    is_real: bool,
) -> list[Conditions]:
    from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
    from openpi_flash_training.evaluation.conditions import METHODS, grid

    usual = ("latest", "0", "0", "0")
    if is_grid:
        usual = (GRID_METHODS, GRID_DELAYS, GRID_LOSSES, GRID_HELD)
    method, delay, loss, held = (
        a if a is not None else b for a, b in zip(given, usual, strict=True)
    )
    try:
        found = grid(
            _words(method, "--method", CHUNK_METHODS if is_real else METHODS),
            _numbers(delay, "--delay"),
            _numbers(loss, "--loss"),
            _numbers(held, "--held"),
            inference_ms=0.0 if is_real else inference_ms,
            execution_s=execution_s,
        )
        return [replace(conditions, is_real=is_real) for conditions in found]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _trials(
    tasks: Sequence[str],
    episodes: int,
    seed: int,
    conditions: Sequence[Conditions],
    *,
    is_swapped: bool,
    filmed: int,
    is_recorded: bool,
) -> list[Trial]:
    from openpi_flash_training.evaluation.conditions import trials

    found = []
    for task in tasks:
        for index, given in enumerate(conditions):
            first = filmed if index == 0 else 0
            found += trials(task, episodes, seed, given, filmed=first, is_recorded=is_recorded)
            if is_swapped:
                found += trials(task, episodes, seed, given, is_swapped=True)
    return found


def _open_loop(
    choice: PolicyChoice, dataset: Path, frames: int, report: Path | None, *, as_json: bool
) -> None:
    from openpi_flash_training.commands.eval_files import command_line, write_report
    from openpi_flash_training.evaluation.open_loop import as_json as errors_as_json
    from openpi_flash_training.evaluation.open_loop import errors_page, measure_errors, text

    if choice is None:
        raise typer.BadParameter("the scripted expert cannot be asked about a dataset's pictures")
    errors = measure_errors(choice, dataset, frames)
    if as_json:
        typer.echo(json.dumps(errors_as_json(errors), indent=2))
    else:
        for line in text(errors):
            typer.echo(line)
    if report is not None:
        write_report(report, errors_page(errors, command_line()))


def _words(text: str, option: str, known: Sequence[str] | Any) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise typer.BadParameter(f"{option}: {word!r} is not one of {', '.join(known)}")
    if not words:
        raise typer.BadParameter(f"{option} names nothing; known are {', '.join(known)}")
    return words


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option}: {text!r} is no list of numbers") from None
