"""The error for recordings and datasets that cannot be used."""

from __future__ import annotations

import os


class DataError(Exception):
    """A recording or dataset that is missing, broken, unfinished or does not fit.

    Attributes:
        path: the file or folder at fault.
        problem: what is wrong with it and what to do.
        episode: index of the episode at fault; None where no single episode is.
    """

    def __init__(
        self, path: str | os.PathLike[str], problem: str, episode: int | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.problem = problem
        self.episode = episode
        where = self.path if episode is None else f"{self.path}: episode {episode}"
        super().__init__(f"{where}: {problem}")

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str, int | None]]:
        # worker processes send it to their parent
        return type(self), (self.path, self.problem, self.episode)
