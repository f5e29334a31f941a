"""Draws a run as a short film: the cameras' images beside commanded and measured joints.

Every picture of the film is made from what was received up to its moment, and from no more: images,
joint states, the newest chunk, the status and the subtask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from demo.frames import Frame
from demo.run_data import Array, Chunk, Inference, RunData, Status, Subtask
from demo.tracking import commanded_positions, travel

FILM_SECONDS = 8.0
"""How much of a run is filmed: long enough to see chunks follow each other, small as a file."""
MAIN_CAMERA, INSET_CAMERA = "scene", "wrist"

WIDTH, HEIGHT = 800, 372
SCENE = (400, 300)
"""Of the main camera's image, pixels."""
INSET = (112, 84)
PANEL_LEFT = 412
JOINTS_SHOWN = 4
FINER = 2
"""Lines are drawn this much larger and then shrunk, which smooths them."""
PAPER = "#ffffff"
INK = "#1f2328"
FAINT = "#8a939c"
GRID = "#e3e6e9"
COMMANDED = "#f0a04b"
MEASURED = "#1f6fb4"
PLANNED = "#2a9d5c"
KEPT_COLOURS = (PAPER, INK, FAINT, GRID, COMMANDED, MEASURED, PLANNED)
"""In the file exactly as they are here; the other colours of the file come from the pictures."""

_Received = TypeVar("_Received", Chunk, Inference, Status, Subtask)


@dataclass(frozen=True)
class _Scale:
    """Where the plot of one joint is, and what its edges mean."""

    left: float
    top: float
    width: float
    height: float
    seconds: float
    low: float
    high: float

    def point(self, time: float, position: float) -> tuple[float, float]:
        across = self.left + self.width * min(max(time / self.seconds, 0.0), 1.0)
        up = (position - self.low) / (self.high - self.low)
        return across, self.top + self.height * (1.0 - min(max(up, 0.0), 1.0))

    def line(self, times: Array, positions: Array) -> list[tuple[float, float]]:
        pairs = zip(times.tolist(), positions.tolist(), strict=True)
        return [self.point(time, position) for time, position in pairs if np.isfinite(position)]


def write_film(run: RunData, frames: Sequence[Frame], path: Path) -> None:
    """Write the film as an animated GIF that plays at the speed of the run.

    Args:
      run: what was received.
      frames: both cameras' images of the film's span.
      path: of the GIF.

    Raises:
      ValueError: there are fewer than two images of the main camera.
    """
    pictures, times = film_pictures(run, frames)
    if len(pictures) < 2:
        raise ValueError(
            f"a film needs two images of camera {MAIN_CAMERA}, the run has {len(pictures)}"
        )
    palette = _palette(pictures)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    shown = np.diff([*times, times[-1] + 1.0])
    # GIF counts in hundredths of a second
    durations = [max(20, 10 * round(100 * float(seconds))) for seconds in shown]
    indexed[0].save(
        path, save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True
    )


def film_pictures(run: RunData, frames: Sequence[Frame]) -> tuple[list[Image.Image], list[float]]:
    """Return a picture for each image of the main camera, and their times in seconds."""
    moments = sorted((f for f in frames if f.camera == MAIN_CAMERA), key=lambda f: f.time)
    insets = sorted((f for f in frames if f.camera == INSET_CAMERA), key=lambda f: f.time)
    commanded = commanded_positions(run.trajectories, run.joints, run.measured, run.placed)
    shown = _most_moved(run)
    scales = [_scale(run, commanded, joint, row) for row, joint in enumerate(shown)]
    pictures = []
    for moment in moments:
        picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        _draw_cameras(picture, moment, _newest_frame(insets, moment.time))
        picture.paste(_panel(run, commanded, shown, scales, moment.time), (PANEL_LEFT, 0))
        _draw_words(ImageDraw.Draw(picture), run, moment.time)
        pictures.append(picture)
    return pictures, [moment.time for moment in moments]


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return one palette for all pictures, so that what stands still takes no bytes."""
    samples = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
    sheet = Image.new("RGB", (WIDTH, HEIGHT * len(samples)))
    for row, picture in enumerate(samples):
        sheet.paste(picture, (0, HEIGHT * row))
    # covers the whole range of colours: a small red cube must not become brown
    covering = sheet.quantize(256 - len(KEPT_COLOURS), method=Image.Quantize.MAXCOVERAGE)
    found = covering.getpalette() or []
    kept = [value for colour in KEPT_COLOURS for value in ImageColor.getrgb(colour)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*kept, *found][: 3 * 256])
    return palette


def _most_moved(run: RunData) -> list[int]:
    """Return the joints that travel most, in the robot's order."""
    order = np.argsort(travel(run.measured, run.placed))[::-1][:JOINTS_SHOWN]
    return sorted(int(joint) for joint in order)


def _scale(run: RunData, commanded: Array, joint: int, row: int) -> _Scale:
    inside = run.measured.times <= FILM_SECONDS
    values = np.concatenate([commanded[inside, joint], run.measured.positions[inside, joint]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    margin = max(0.05, 0.12 * (high - low))
    space = (SCENE[1] - 24) / JOINTS_SHOWN
    return _Scale(
        left=0.0,
        top=FINER * (24 + row * space + 16),
        width=FINER * (WIDTH - PANEL_LEFT - 12),
        height=FINER * (space - 24),
        seconds=FILM_SECONDS,
        low=low - margin,
        high=high + margin,
    )


def _draw_cameras(picture: Image.Image, scene: Frame, inset: Frame | None) -> None:
    picture.paste(Image.fromarray(scene.pixels).resize(SCENE, Image.Resampling.LANCZOS), (0, 0))
    if inset is None:
        return
    small = Image.fromarray(inset.pixels).resize(INSET, Image.Resampling.LANCZOS)
    left, top = SCENE[0] - INSET[0] - 8, 8
    frame = (left - 2, top - 2, left + INSET[0] + 1, top + INSET[1] + 1)
    ImageDraw.Draw(picture).rectangle(frame, outline=PAPER, width=2)
    picture.paste(small, (left, top))


def _panel(
    run: RunData, commanded: Array, shown: Sequence[int], scales: Sequence[_Scale], now: float
) -> Image.Image:
    size = (WIDTH - PANEL_LEFT, SCENE[1])
    panel = Image.new("RGB", (FINER * size[0], FINER * size[1]), PAPER)
    draw = ImageDraw.Draw(panel)
    _draw_legend(draw)
    chunk = _newest(run.chunks, now)
    seen = run.measured.times <= now
    for joint, scale in zip(shown, scales, strict=True):
        bottom = scale.top + scale.height
        draw.text(
            (scale.left, scale.top - 15 * FINER), run.joints[joint], INK, font=_font(11 * FINER)
        )
        draw.rectangle((scale.left, scale.top, scale.left + scale.width, bottom), fill="#f6f7f8")
        for taken in run.chunks:
            if taken.received <= now:
                across = scale.point(taken.received, scale.low)[0]
                draw.line([(across, scale.top), (across, bottom)], GRID, FINER)
        if chunk is not None:
            _draw_planned(draw, scale, chunk, joint, now)
        times = run.measured.times[seen]
        for values, colour, width in (
            (commanded[seen, joint], COMMANDED, 4 * FINER),
            (run.measured.positions[seen, joint], MEASURED, int(1.5 * FINER)),
        ):
            line = scale.line(times, values)
            if len(line) > 1:
                draw.line(line, colour, width, joint="curve")
    return panel.resize(size, Image.Resampling.LANCZOS)


def _draw_planned(
    draw: ImageDraw.ImageDraw, scale: _Scale, chunk: Chunk, joint: int, now: float
) -> None:
    """Draw the steps of the newest chunk that are still to come."""
    radius = 1.2 * FINER
    for due, value in zip(chunk.due.tolist(), chunk.values[:, joint].tolist(), strict=True):
        if now < due < scale.seconds and scale.low < value < scale.high:
            x, y = scale.point(due, value)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=PLANNED)


def _draw_legend(draw: ImageDraw.ImageDraw) -> None:
    left = 0.0
    font = _font(11 * FINER)
    for colour, word in (
        (COMMANDED, "commanded"),
        (MEASURED, "measured"),
        (PLANNED, "newest chunk, still to come"),
    ):
        draw.rectangle((left, 7 * FINER, left + 14 * FINER, 11 * FINER), fill=colour)
        draw.text((left + 19 * FINER, 2 * FINER), word, INK, font=font)
        left += 19 * FINER + draw.textlength(word, font=font) + 16 * FINER


def _draw_words(draw: ImageDraw.ImageDraw, run: RunData, now: float) -> None:
    status, subtask = _newest(run.statuses, now), _newest(run.subtasks, now)
    inference = _newest(run.inferences, now)
    chunks = sum(chunk.received <= now for chunk in run.chunks)
    words = [f"{now:4.1f} s"]
    if status is not None:
        words.append(f"{status.state.name} over {status.transport}")
    words.append(f"chunk {chunks}")
    if inference is not None:
        words.append(f"round trip {1e3 * inference.total:.0f} ms")
    top = SCENE[1] + 10
    draw.text((12, top), "    ".join(words), INK, font=_font(15))
    title, text = "subtask", subtask.text if subtask is not None else ""
    if run.is_judged:
        ended = [episode for episode in run.episodes if episode.ended <= now]
        done = sum(episode.is_success for episode in ended)
        title, text = "prompt", f"{run.prompt}    {done} of {len(ended)} done"
        text += f"    {subtask.text}" if subtask is not None else ""
    draw.text((12, top + 28), title, FAINT, font=_font(15))
    draw.text((82, top + 28), text, INK, font=_font(15))


def _newest_frame(frames: Sequence[Frame], now: float) -> Frame | None:
    earlier = [frame for frame in frames if frame.time <= now]
    return earlier[-1] if earlier else (frames[0] if frames else None)


def _newest(items: Sequence[_Received], now: float) -> _Received | None:
    earlier = [item for item in items if item.received <= now]
    return earlier[-1] if earlier else None


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
