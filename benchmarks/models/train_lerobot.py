"""LeRobot's update, as its training script does it. An arm of `train_peer.py`, which starts it."""

from __future__ import annotations

import os

import numpy as np
import torch
from lerobot_peer import model_of
from train_case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    RATE,
    WEIGHT_DECAY,
    answer_steps,
    case_of_arguments,
)


def main() -> None:
    """Build the model, and answer."""
    given = case_of_arguments()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = model_of(given.case).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY
    )
    cameras = torch.from_numpy(given.images.transpose(1, 0, 4, 2, 3).copy())
    arguments = [
        list(cameras),
        [torch.ones(len(given.words), dtype=torch.bool)] * len(cameras),
        torch.from_numpy(given.words),
        torch.ones(given.words.shape, dtype=torch.bool),
    ]
    if given.case.shape.kind == "pi0":
        arguments.append(torch.from_numpy(given.state))
    arguments.append(torch.from_numpy(given.actions))
    drawn = np.load(given.draws)
    noise, time = (torch.from_numpy(drawn[name]) for name in ("noise", "time"))

    def step(number: int) -> float:
        error = model.forward(*arguments, noise=noise[number], time=time[number]).mean()
        error.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return float(error.detach())

    answer_steps(step)


if __name__ == "__main__":
    main()
