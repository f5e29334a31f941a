"""`openpi-flash train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openpi_flash_training.train.settings import TrainSettings

EXIT_INTERRUPTED = 130


def train(
    config: Annotated[
        str,
        typer.Argument(help="A JSON file of settings, or a named config.", show_default=False),
    ],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="A LeRobot dataset: data.dataset.", show_default=False)
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Directory of the run: run.output.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A checkpoint to start from: model.weights.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of the run: run.steps.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples an update: run.batch_size.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.FIELD=VALUE",
            help="Any other setting, as optimizer.peak_rate=1e-4; may be repeated.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the output directory.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in the output directory.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, print the parameters and memory, and end."
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard: run.tensorboard.")
    ] = False,
    wandb: Annotated[
        str | None,
        typer.Option(
            metavar="PROJECT", help="Log for Weights & Biases: run.wandb.", show_default=False
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Several processes train together: where the first of them listens.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="How many there are.")] = 1,
    process: Annotated[int, typer.Option(help="Which one this is, from 0.")] = 0,
) -> None:
    """Train a policy on a LeRobot dataset, from a checkpoint or from random weights.

    Named configs: pi05_libero, pi0_libero, pi05_positronic_lowmem and others (docs/training.md).

    Ctrl-C saves and ends; --resume goes on, also after a crash.
    """
    from openpi_flash_training.commands.failure import one_line_errors
    from openpi_flash_training.commands.train_console import quiet_libraries

    quiet_libraries()
    options = {
        "data.dataset": dataset,
        "run.output": output,
        "model.weights": weights,
        "run.steps": steps,
        "run.batch_size": batch_size,
        "run.tensorboard": tensorboard or None,
        "run.wandb": wandb,
    }
    with one_line_errors():
        if resume and overwrite:
            raise typer.BadParameter("--resume and --overwrite exclude each other")
        settings = _settings(config, options, set_ or [])
        _join(coordinator, processes, process)
        if dry_run:
            _dry_run(settings)
            return
        _train(settings, resume=resume, overwrite=overwrite)


def _settings(config: str, options: dict[str, Any], others: list[str]) -> TrainSettings:
    import json

    from openpi_flash_training.train.named import named_settings
    from openpi_flash_training.train.settings_file import read_settings, with_options

    is_file = config.endswith(".json") or Path(config).is_file()
    settings = read_settings(Path(config)) if is_file else named_settings(config)
    given = [f"{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    return with_options(settings, [*given, *others])


def _join(coordinator: str | None, processes: int, process: int) -> None:
    """Become one of several processes; before JAX looks for devices."""
    if coordinator is None:
        if processes != 1 or process != 0:
            raise typer.BadParameter("--processes and --process need --coordinator")
        return
    import jax

    jax.distributed.initialize(coordinator, processes, process)


def _dry_run(settings: TrainSettings) -> None:
    from openpi_flash_training.commands.train_console import print_plan
    from openpi_flash_training.train.assemble import assemble
    from openpi_flash_training.train.mesh import check_batch, make_mesh
    from openpi_flash_training.train.plan import make_plan

    assembled = assemble(settings)
    mesh = make_mesh(settings.run.fsdp_devices)
    check_batch(mesh, settings.run.batch_size, settings.run.accumulation)
    print_plan(make_plan(assembled, mesh))


def _train(settings: TrainSettings, *, resume: bool, overwrite: bool) -> None:
    from openpi_flash_models.jax_models.compile_cache import use_compile_cache
    from openpi_flash_training.commands.train_console import Console, stop_on_signals
    from openpi_flash_training.train.run import train as run

    use_compile_cache()
    with stop_on_signals() as should_stop, Console(settings) as console:
        outcome = run(
            settings, console, resume=resume, overwrite=overwrite, should_stop=should_stop
        )
    if outcome.finished:
        typer.echo(f"done: {outcome.steps} steps, the last checkpoint is {outcome.checkpoint}")
        return
    typer.echo(
        f"stopped after {outcome.steps} of {settings.run.steps} steps, saved as "
        f"{outcome.checkpoint}; go on by the same command with --resume"
    )
    raise typer.Exit(EXIT_INTERRUPTED)
