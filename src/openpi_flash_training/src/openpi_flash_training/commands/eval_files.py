"""The files that `openpi-flash eval` writes: a report, and a dataset of what was played.

Whether they can be written is known before anything is played, which may take hours.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openpi_flash_training.demonstrations.recording import DatasetRecorder
    from openpi_flash_training.evaluation.conditions import Trial
    from openpi_flash_training.evaluation.measures import Cell
    from openpi_flash_training.evaluation.trial_result import TrialResult


@dataclass(frozen=True)
class EvalFiles:
    """Where the episodes of one policy go.

    Attributes:
        report: file; None: there is none.
        recorder: of a dataset; None: nothing is recorded.
        workers: processes that draw its pictures.
    """

    report: Path | None
    recorder: DatasetRecorder | None
    workers: int = 1

    def write(self, name: str, cells: Sequence[Cell], results: Sequence[TrialResult]) -> None:
        """Write what was asked for, the report first: pictures of a dataset take minutes.

        Args:
            name: of the policy.
            cells: what was measured.
            results: of every episode.

        Raises:
            DataError: a file cannot be written.
        """
        if self.report is not None:
            from openpi_flash_training.evaluation.report import report as whole_report

            write_report(self.report, whole_report(name, command_line(), cells, results))
        if self.recorder is not None:
            from openpi_flash_training.demonstrations.recording import Recorded

            recorded = [
                Recorded(one.frames, one.outcome, {"method": one.trial.conditions.method})
                for one in results
                if one.frames is not None
            ]
            self.recorder.add_all(recorded, self.workers)


@contextlib.contextmanager
def opened(
    report: Path | None, record: Path | None, trial: Trial, workers: int = 1
) -> Iterator[EvalFiles]:
    """The files of an evaluation; the dataset is closed at the end.

    Args:
        report: file; None: there is none.
        record: folder of a new dataset; None: nothing is recorded.
        trial: one of those that will be played.
        workers: processes that play; as many draw the pictures of a dataset, on no more than this
            machine's cores.

    Raises:
        DataError: a file or folder cannot be used.
        RenderingUnavailableError: there is no OpenGL to draw a dataset's pictures with.
    """
    if report is not None:
        check_report(report)
    if record is None:
        yield EvalFiles(report, None)
        return
    from openpi_flash_training.demonstrations.recording import DatasetRecorder
    from openpi_flash_training.evaluation.closed_loop import recording_plan
    from sim_robot.gl_backend import choose_gl_backend

    os.environ["MUJOCO_GL"] = choose_gl_backend()
    plan = recording_plan(trial)
    recorder = DatasetRecorder(record, plan.fps, plan.horizon, plan.image_size)
    # those that play may be on other machines, and more than this one has cores
    drawing = min(workers, os.cpu_count() or 1)
    with contextlib.closing(recorder):
        yield EvalFiles(report, recorder, drawing)


def check_report(file: Path) -> None:
    """Refuse a report that has no place.

    Raises:
        DataError: its folder is missing or may not be written to, or it is a folder itself.
    """
    from openpi_flash_training.episodes.error import DataError

    if file.is_dir():
        raise DataError(file, "is a folder; a report is one file")
    if not file.parent.is_dir():
        raise DataError(file, f"cannot be written: there is no folder {file.parent}")
    if not os.access(file.parent, os.W_OK):
        raise DataError(file, f"cannot be written: {file.parent} may not be written to")


def write_report(file: Path, page: str) -> None:
    """Write a page of HTML at once.

    Raises:
        DataError: the system refuses.
    """
    from openpi_flash_training.dataset.layout import whole_file

    with whole_file(file) as partial:
        partial.write_text(page, encoding="utf-8")


def command_line() -> str:
    """What was asked for, for a report."""
    return shlex.join(["openpi-flash", *sys.argv[1:]])
