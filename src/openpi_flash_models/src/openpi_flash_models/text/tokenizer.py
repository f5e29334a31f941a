"""PaliGemma's SentencePiece tokenizer: finds it, encodes prompts, decodes subtasks."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece

from openpi_flash_models.downloads import cached, fetch
from openpi_flash_models.errors import CheckpointError, DownloadError
from openpi_flash_models.files import expand_home, read_bytes

log = logging.getLogger(__name__)

FILE_NAME = "paligemma_tokenizer.model"
PATH_VARIABLE = "OPENPI_TOKENIZER_PATH"
"""Environment variable for the path of the tokenizer; overrides all other places."""
SOURCES = (
    f"gs://big_vision/{FILE_NAME}",
    "hf://google/paligemma-3b-pt-224/tokenizer.model",  # the same file; its terms need HF_TOKEN
)
PAD_ID, EOS_ID, BOS_ID = 0, 1, 2
_WORD_START = "\u2581"


@dataclass(frozen=True)
class Tokens:
    """One prompt, padded on the right.

    Attributes:
        ids: [L] int32, PAD_ID where padded.
        mask: [L] bool, true where a token is.
    """

    ids: np.ndarray
    mask: np.ndarray


class PaligemmaTokenizer:
    """Encodes prompts and decodes subtasks."""

    def __init__(self, model_file: Path) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=read_bytes(model_file))
        except CheckpointError:
            raise
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{model_file} is not a SentencePiece model: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return int(self._pieces.vocab_size())

    def encode(self, text: str, length: int, *, newline_after: bool = False) -> Tokens:
        """Encode with BOS in front; a text that is too long loses its end, with a warning.

        Args:
            text: the prompt in its final form.
            length: L of the result.
            newline_after: end with a newline encoded by itself, as pi0's prompts do.
        """
        ids = self._pieces.encode(text, add_bos=True)
        if newline_after:
            ids += self._pieces.encode("\n")
        if len(ids) > length:
            log.warning("a prompt of %d tokens is cut to %d: %.80r", len(ids), length, text)
            ids = ids[:length]
        padded = np.full(length, PAD_ID, np.int32)
        padded[: len(ids)] = ids
        return Tokens(padded, np.arange(length) < len(ids))

    def ids(self, text: str) -> list[int]:
        """Ids of a text alone, without BOS."""
        return [int(i) for i in self._pieces.encode(text)]

    def decode(self, ids: np.ndarray) -> str:
        """Text of generated ids, without PAD and EOS."""
        return str(self._pieces.decode([int(i) for i in ids if i not in (PAD_ID, EOS_ID)]))

    @cached_property
    def state_numbers(self) -> tuple[int, ...]:
        """Ids of -1 to 255, as a prompt has the state; empty if one is more than one piece."""
        pieces = [self.ids(f": {number}")[1:] for number in range(-1, 256)]
        return tuple(ids[0] for ids in pieces) if all(len(ids) == 1 for ids in pieces) else ()

    @cached_property
    def printable(self) -> np.ndarray:
        """[V] bool: PAD, EOS and every piece of printable ASCII: the tokens of subtasks."""
        allowed = np.zeros(self.vocabulary_size, bool)
        for i in range(self.vocabulary_size):
            piece = self._pieces.id_to_piece(i).replace(_WORD_START, " ")
            allowed[i] = piece.isascii() and piece.isprintable()
        allowed[[PAD_ID, EOS_ID]] = True
        return allowed


def find_tokenizer(checkpoint: Path, *, download: bool = True) -> Path:
    """The tokenizer that the environment names, else the checkpoint's, the cache's, or a download.

    Args:
        checkpoint: may hold ``paligemma_tokenizer.model``.
        download: whether to download a missing tokenizer into openpi's cache.

    Raises:
        CheckpointError: there is none; lists the places that were searched.
    """
    named = os.environ.get(PATH_VARIABLE)
    if named:
        path = expand_home(named, instead=f"give {PATH_VARIABLE} a whole path")
        if not path.is_file():
            raise CheckpointError(f"no such tokenizer: {path} (from {PATH_VARIABLE})")
        return path
    places = [
        checkpoint / "tokenizer" / FILE_NAME,
        checkpoint / FILE_NAME,
        *(cached(source) for source in SOURCES),
    ]
    for place in places:
        if place.is_file():
            return place
    problems = []
    for source in SOURCES if download else ():
        try:
            return fetch(source)
        except DownloadError as error:
            problems.append(str(error))
    looked = ", ".join(map(str, places))
    because = f"; downloads failed: {'; '.join(problems)}" if problems else ""
    raise CheckpointError(
        f"no PaliGemma tokenizer (looked for {looked}{because}): get {SOURCES[0]}, or "
        "tokenizer.model of google/paligemma-3b-pt-224, and put it in the checkpoint as "
        f"{FILE_NAME}"
    )
