"""A film of an episode: its cameras side by side, the prompt and the stages above them."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from openpi_flash_training.demonstrations.pictures import Image
from openpi_flash_training.evaluation.conditions import Trial
from sim_robot.tasks import Outcome, Progress

FPS = 12.5
TITLE_HEIGHT = 24
LAST_FRAMES = 8
"""How often the last picture is repeated, so that a viewer sees the outcome."""


class EpisodeCamera:
    """Collects the pictures of one episode after another."""

    def __init__(self) -> None:
        self._frames: list[Image] = []

    def shoot(self, images: dict[str, Image], trial: Trial, progress: Progress) -> None:
        """One more picture."""
        height, width = next(iter(images.values())).shape[:2]
        total = width * len(images)
        canvas = PilImage.new("RGB", (total, height + TITLE_HEIGHT), (24, 26, 30))
        for index, image in enumerate(images.values()):
            canvas.paste(PilImage.fromarray(image), (index * width, TITLE_HEIGHT))
        reached = [*progress.reached_at]
        if progress.outcome is not Outcome.RUNNING:
            reached.append(progress.outcome.value.upper())
        draw = ImageDraw.Draw(canvas)
        draw.text((8, 6), f'"{trial.prompt}"', fill=(235, 235, 235))
        draw.text((total // 2 + 8, 6), "  ".join(reached), fill=(150, 205, 150))
        self._frames.append(np.asarray(canvas))

    def develop(self) -> bytes:
        """The film, H.264 in MP4, which browsers play; the next one begins empty."""
        frames, self._frames = self._frames, []
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(FPS))
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "26", "preset": "veryfast"}
            stream.thread_count = 1
            for frame in [*frames, *[frames[-1]] * LAST_FRAMES]:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return file.getvalue()
