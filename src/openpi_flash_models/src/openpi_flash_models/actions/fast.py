"""FAST action tokens: encodes a chunk of actions in few tokens, and decodes it.

Source: Pertsch et al. 2025 (arXiv 2501.09747), and ``processing_action_tokenizer.py`` of
``physical-intelligence/fast`` on the Hugging Face hub. A chunk is transformed along time (DCT-II,
orthonormal), scaled, rounded, written as one character per coefficient and compressed by byte-pair
encoding. transformers downloads and runs that program; this module reads its data alone
(``tokenizer.json``, ``processor_config.json``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

from openpi_flash_models.downloads import cached, fetch
from openpi_flash_models.errors import ActionDecodeError, CheckpointError, DownloadError
from openpi_flash_models.files import read_bytes, read_json

DIRECTORY = "fast_tokenizer"
_TOKENIZER, _SETTINGS = "tokenizer.json", "processor_config.json"
_UNREADABLE = "\ufffd"


@dataclass(frozen=True)
class FastSettings:
    """``processor_config.json``.

    Attributes:
        scale: factor of the coefficients before they are rounded.
        min_token: the coefficient that is written as character 0.
        vocab_size: number of tokens.
    """

    scale: float
    min_token: int
    vocab_size: int


class FastTokenizer:
    """A FAST tokenizer, read from a directory.

    Attributes:
        settings: from ``processor_config.json``.

    Raises:
        CheckpointError: the directory holds no FAST tokenizer, or a broken one.
    """

    def __init__(self, directory: Path) -> None:
        self.settings = _read_settings(directory / _SETTINGS)
        file = directory / _TOKENIZER
        if not file.is_file():
            file = directory / "bpe_tokenizer" / _TOKENIZER  # where newer transformers keeps it
        try:
            # the content, since the library takes paths in UTF-8 only
            self._pairs = tokenizers.Tokenizer.from_str(read_bytes(file).decode())
        except CheckpointError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{file} is not a tokenizer: {error}") from error

    def encode(self, actions: np.ndarray) -> list[int]:
        """Encode a chunk.

        Args:
            actions: [H, D], normalised.
        """
        coefficients = dct_matrix(len(actions)) @ np.asarray(actions, np.float64)
        rounded = np.around(coefficients * self.settings.scale).astype(np.int64).ravel()
        codes = np.maximum(rounded - self.settings.min_token, 0)
        ids: list[int] = self._pairs.encode("".join(map(chr, codes))).ids
        return ids

    def decode(self, ids: list[int], horizon: int, action_dim: int) -> np.ndarray:
        """Decode tokens to a chunk [H, D], normalised, float64.

        Raises:
            ActionDecodeError: the tokens are no chunk of this shape; says why.
        """
        size = self._pairs.get_vocab_size()
        foreign = [i for i in ids if not 0 <= i < size]
        if foreign:
            raise ActionDecodeError(
                f"{len(foreign)} of {len(ids)} tokens are no action tokens "
                f"(the first is {foreign[0]}, there are {size})"
            )
        text = self._pairs.decode(ids, skip_special_tokens=False)
        if _UNREADABLE in text:
            raise ActionDecodeError(f"{len(ids)} tokens end in the middle of a coefficient")
        if len(text) != horizon * action_dim:
            raise ActionDecodeError(
                f"{len(ids)} tokens hold {len(text)} coefficients, expected "
                f"{horizon} steps x {action_dim} actions = {horizon * action_dim}"
            )
        codes = np.array([ord(character) for character in text], np.float64)
        coefficients = (codes + self.settings.min_token).reshape(horizon, action_dim)
        return dct_matrix(horizon).T @ (coefficients / self.settings.scale)


def find_fast_tokenizer(checkpoint: Path, repository: str, *, download: bool = True) -> Path:
    """Find a FAST tokenizer: in the checkpoint, else in the cache, else by a download.

    Args:
        checkpoint: may hold ``fast_tokenizer/``.
        repository: on the Hugging Face hub.
        download: whether to download a missing tokenizer.

    Raises:
        CheckpointError: there is none; lists the places that were searched.
    """
    source = f"hf://{repository}"
    places = [checkpoint / DIRECTORY, cached(source)]
    for place in places:
        if (place / _SETTINGS).is_file():
            return place
    because = ""
    if download:
        try:
            return fetch(source)
        except DownloadError as error:
            because = f"; {error}"
    looked = ", ".join(map(str, places))
    raise CheckpointError(
        f"no FAST tokenizer (looked for {looked}{because}): put tokenizer.json and "
        f"{_SETTINGS} of {repository} into the checkpoint's {DIRECTORY}/"
    )


def dct_matrix(n: int) -> np.ndarray:
    """The orthonormal DCT-II of length ``n``; its inverse is its transpose."""
    k, t = np.arange(n)[:, None], np.arange(n)[None, :]
    matrix = np.cos(math.pi * (2 * t + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def _read_settings(file: Path) -> FastSettings:
    try:
        values = read_json(file, "the settings of a FAST tokenizer")
        settings = FastSettings(
            float(values["scale"]), int(values["min_token"]), int(values["vocab_size"])
        )
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {file.parent} is no FAST tokenizer") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is not the settings of a FAST tokenizer: {error!r}"
        ) from error
    if not settings.scale > 0:
        raise CheckpointError(f"{file}: scale is {settings.scale}, expected more than 0")
    return settings
