"""Checkpoints of a run, in openpi's layout and two folders more.

    <run>/<step>/params/              the weights to serve: the running mean where there is one
    <run>/<step>/train_state/         what a resumed run needs besides
    <run>/<step>/assets/<asset_id>/norm_stats.json, assets/training.json
    <run>/<step>/tokenizer/           the tokenizer, so that the directory can be served as it is
                                      (and fast_tokenizer/ of pi0-FAST)
    <run>/<step>/loader/              where each process's loader was
    <run>/<step>/_CHECKPOINT_METADATA

A step's directory is named after the last step done, counted from 0; ``train_state.step`` is that
plus 1. It is written beside, under a temporary name, and renamed when all of it is on disk.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from openpi_flash_models.checkpoints.orbax import lazy_leaves
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import refuse_differences
from openpi_flash_training.train.files_item import FilesHandler, FilesRestore, FilesSave
from openpi_flash_training.train.saved_tree import loaded_state, saved_params, saved_train_state
from openpi_flash_training.train.step import TrainState

SETTINGS = "training.json"
_TREES, _LOADER = ("params", "train_state"), "loader"
_TEMPORARY = ".orbax-checkpoint-tmp"
_SAVE_TIMEOUT = 7200
"""Seconds that a save may take, as in openpi."""


Companions = Mapping[str, Mapping[str, bytes]]
"""Files that each checkpoint carries: contents by folder, then by name below it."""


class CheckpointStore:
    """The checkpoints of one run; used by all processes of the run alike.

    Args:
        directory: of the run; is created.
        keep_every: steps that are multiples are kept for ever, of others the newest only; None:
            the newest only.
        companions: what each checkpoint carries.
    """

    def __init__(self, directory: Path, *, keep_every: int | None, companions: Companions) -> None:
        self.directory = directory.absolute()
        self._companions = companions
        self._files = {name: FilesHandler() for name in (*companions, _LOADER)}
        handlers: dict[str, Any] = {name: ocp.PyTreeCheckpointHandler() for name in _TREES}
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            keep_period=keep_every,
            create=True,
            async_options=ocp.AsyncOptions(
                timeout_secs=_SAVE_TIMEOUT,
                # the files are written by threads that do not wait for a directory
                create_directories_asynchronously=False,
            ),
        )
        self._remove_unfinished()
        with self._explained("open the checkpoints"):
            self._manager = ocp.CheckpointManager(
                self.directory, item_handlers=handlers | self._files, options=options
            )

    def save(self, state: TrainState, loader: bytes) -> int:
        """Start to save; returns when the state may be changed again.

        Args:
            state: after the step that the checkpoint is named after.
            loader: this process's, after the same step.

        Returns:
            The checkpoint's step.

        Raises:
            CheckpointError: this save, or the one before, does not fit the disk or fails.
        """
        step = int(state.step) - 1
        self.wait()
        params, train_state = saved_params(state), saved_train_state(state)
        self._check_space(_size((params, train_state)), step)
        with self._explained(f"save step {step}"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.PyTreeSave(params),
                    train_state=ocp.args.PyTreeSave(train_state),
                    loader=FilesSave({_loader_name(): loader}, every_process=True),
                    **{folder: FilesSave(files) for folder, files in self._companions.items()},
                ),
            )
        return step

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            CheckpointError: the save that was under way failed.
        """
        with self._explained("save"):
            self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, bytes]:
        """A state, on the devices of ``like``, and this process's loader.

        Args:
            step: of a whole checkpoint.
            like: shapes, dtypes and shardings.

        Raises:
            CheckpointError: it is of another size or broken; names the tensors.
        """
        place = self.directory / str(step)
        params, train_state = saved_params(like), saved_train_state(like)
        _check_sizes(place, params)
        with self._explained(f"restore step {step}"):
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    params=_restore_args(params),
                    train_state=_restore_args(train_state),
                    loader=FilesRestore(),
                ),
            )
        name = _loader_name()
        if name not in found["loader"]:
            raise CheckpointError(
                f"{place / 'loader'} has no {name}: the run had another number of processes; "
                "start as many, or begin a new run from its weights"
            )
        return loaded_state(found["params"], found["train_state"], like), found["loader"][name]

    def close(self) -> None:
        """Wait, and free threads."""
        try:
            self.wait()
        finally:
            self._manager.close()
            for handler in self._files.values():
                handler.close()

    def _check_space(self, needed: int, step: int) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise CheckpointError(
                f"cannot save step {step} in {self.directory}: it needs {_gb(needed)}, "
                f"{_gb(free)} are free; {self._whole()}"
            )

    def _whole(self) -> str:
        """What a user can go on with."""
        newest = newest_whole(self.directory)
        if newest is None:
            return "there is no whole checkpoint yet"
        return f"the newest whole checkpoint is {self.directory / str(newest)}"

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn the failures of Orbax and tensorstore into one line."""
        try:
            yield
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            self._remove_unfinished()
            told = _told(error)
            whole = f"; {self._whole()}" if hasattr(self, "_manager") else ""
            raise CheckpointError(f"cannot {doing} in {self.directory}: {told}{whole}") from error

    def _remove_unfinished(self) -> None:
        """Give back the space, and free the names, of what was not written to its end."""
        if jax.process_index() != 0 or not self.directory.is_dir():
            return
        newest = newest_whole(self.directory)
        for path in self.directory.iterdir():
            is_later = path.name.isdigit() and int(path.name) > (-1 if newest is None else newest)
            if _TEMPORARY in path.name or is_later:
                shutil.rmtree(path, ignore_errors=True)


def newest_whole(directory: Path) -> int | None:
    """The step of the newest whole checkpoint of a run; None: there is none."""
    steps = [
        int(path.name)
        for path in directory.iterdir()
        if path.name.isdigit() and (path / "_CHECKPOINT_METADATA").is_file()
    ]
    return max(steps, default=None)


def prepare_directory(directory: Path, *, resume: bool, overwrite: bool, needed: int = 0) -> None:
    """Make sure that a run may write into a directory.

    Args:
        directory: of the run.
        resume: go on with what is there.
        overwrite: delete what is there.
        needed: bytes of a checkpoint.

    Raises:
        CheckpointError: there is something, and neither word was said; it is no run; or the disk
            has no place for a checkpoint.
    """
    _make_place(directory, resume=resume, overwrite=overwrite)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise CheckpointError(
            f"{directory}: a checkpoint needs {_gb(needed)}, {_gb(free)} are free; free some, or "
            "name a directory on another disk"
        )


def _make_place(directory: Path, *, resume: bool, overwrite: bool) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        directory.mkdir(parents=True, exist_ok=True)
        return
    if not is_run(directory):
        raise CheckpointError(
            f"{directory} is not empty and holds no training run; name another directory"
        )
    if overwrite:
        shutil.rmtree(directory)
        directory.mkdir(parents=True)
    elif not resume:
        raise CheckpointError(
            f"{directory} holds a training run; go on with it by --resume, or delete it by "
            "--overwrite"
        )


def is_run(directory: Path) -> bool:
    """Whether a directory was made by a training run: it has its settings."""
    return (directory / SETTINGS).is_file()


def checkpoint_bytes(state: TrainState) -> int:
    """Bytes of one checkpoint on disk, about."""
    return _size((saved_params(state), saved_train_state(state)))


def _check_sizes(place: Path, params: Any) -> None:
    expected = {
        "/".join(str(part.key) for part in path[:-1]): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    found = {
        "/".join(path): tuple(leaf.shape) for path, leaf in lazy_leaves(place / "params").items()
    }
    try:
        refuse_differences(expected, found, str(place / "params"))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; it is of another model or of other adapters than the settings"
        ) from None


def _restore_args(tree: Any) -> Any:
    args = ocp.checkpoint_utils.construct_restore_args(tree)
    return ocp.args.PyTreeRestore(item=tree, restore_args=args)


def _loader_name() -> str:
    return f"process_{jax.process_index()}_of_{jax.process_count()}.json"


def _size(tree: Any) -> int:
    return sum(
        int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree)
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _told(error: BaseException) -> str:
    """The cause of a failure in few words."""
    text = str(error).split("\n")[0]
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left on the device"
    for words, meaning in (
        ("No space left on device", "no space left on the device"),
        ("File too large", "a file became larger than this user's limit"),
    ):
        if words in str(error):
            return meaning
    return text[:300] or type(error).__name__
