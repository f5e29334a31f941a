"""Token sequences of training samples: prompt, prompt with FAST tokens, prompt with subtask.

Each is a mapping with the arrays of ``batch.Tokens``, without a batch axis.
"""

from __future__ import annotations

import logging

import numpy as np

from openpi_flash_models.actions.fast import FastTokenizer
from openpi_flash_models.actions.tokens import action_ids
from openpi_flash_models.text.prompts import planner_prompt
from openpi_flash_models.text.tokenizer import BOS_ID, EOS_ID, PaligemmaTokenizer

log = logging.getLogger(__name__)

Text = dict[str, np.ndarray]


def plain_text(ids: np.ndarray, mask: np.ndarray) -> Text:
    """A prompt that is read as a whole."""
    return {"ids": ids, "mask": mask}


def fast_text(
    words: PaligemmaTokenizer,
    fast: FastTokenizer,
    prompt: np.ndarray,
    actions: np.ndarray,
    length: int,
) -> Text:
    """pi0-FAST's prompt, then ``Action: <tokens>|`` and EOS, which it is trained to write.

    Source: ``FASTTokenizer.tokenize`` in ``openpi/models/tokenizer.py``.

    Args:
        words: PaliGemma's tokenizer.
        fast: of the actions.
        prompt: ids with BOS.
        actions: [H, D], normalised.
        length: of the result; what is longer loses its end.
    """
    tokens = action_ids(fast.encode(actions), words.vocabulary_size)
    answer = [*words.ids("Action: "), *tokens, *words.ids("|"), EOS_ID]
    return _with_answer([int(i) for i in prompt], answer, length)


def subtask_text(
    words: PaligemmaTokenizer, task: str, subtask: str, template: str, length: int
) -> Text:
    """The planner's prompt, then the subtask and EOS, which it is trained to write.

    Args:
        words: PaliGemma's tokenizer.
        task: of the frame.
        subtask: of the frame.
        template: holds ``{task}``.
        length: of the result; what is longer loses its end.
    """
    prompt = [BOS_ID, *words.ids(planner_prompt(task, template))]
    return _with_answer(prompt, [*words.ids(subtask.strip()), EOS_ID], length)


def _with_answer(prompt: list[int], answer: list[int], length: int) -> Text:
    count = len(prompt) + len(answer)
    if count > length:
        log.warning("a training text of %d tokens is cut to %d", count, length)
    ids = np.zeros(length, np.int32)
    ids[: min(count, length)] = (prompt + answer)[:length]
    place = np.arange(length)
    is_answer = (place >= len(prompt)) & (place < count)
    return {"ids": ids, "mask": place < count, "causal": is_answer, "loss_mask": is_answer}
