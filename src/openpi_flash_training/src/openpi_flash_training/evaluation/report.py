"""A report in one HTML file: tables, plots and films inside of it, no scripts, nothing fetched."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_training.evaluation.conditions import Conditions
from openpi_flash_training.evaluation.measures import NOTHING, Cell, Share
from openpi_flash_training.evaluation.plots import delays_png, stages_png
from openpi_flash_training.evaluation.trial_result import TrialResult
from sim_robot.robot import COLOURS

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 74rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.note { color: #666; font-size: 0.9rem; }
table { border-collapse: collapse; margin: 0.6rem 0; font-variant-numeric: tabular-nums; }
th, td { white-space: nowrap; padding: 0.2rem 0.7rem; text-align: right;
         border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; } th { color: #666; font-weight: 600; }
td.own { background: #e8f1e8; } .scroll { overflow-x: auto; }
figure { display: inline-block; margin: 0.4rem 0.8rem 0.8rem 0; }
figcaption { font-size: 0.85rem; color: #555; } video, img { max-width: 100%; }
.bar { display: inline-block; height: 0.7em; background: #2f6fb2; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        body: HTML.
    """

    title: str
    body: str


def report(policy: str, command: str, cells: Sequence[Cell], results: Sequence[TrialResult]) -> str:
    """The whole file.

    Args:
        policy: what was measured, for people.
        command: that makes this report again.
        cells: what was measured.
        results: all trials, for their films.
    """
    sections = [Section("Success", _cells_table(cells))]
    if len({cell.conditions for cell in cells}) > 1:
        plain = [cell for cell in cells if not cell.is_swapped]
        sections.append(Section("Delay", image(delays_png(plain), "success, time and jerk")))
    firsts = _first_of_each_task(cells)
    sections.append(Section("Stages", image(stages_png(firsts), "share of episodes by stage")))
    if any(cell.subtasks.total for cell in cells):
        sections.append(Section("Subtasks", _subtasks_table(cells)))
    coloured = [cell for cell in firsts if cell.confusion]
    if coloured:
        sections.append(Section("Colours", "".join(_confusion(cell) for cell in coloured)))
    films = [result for result in results if result.film]
    if films:
        sections.append(Section("Films", "".join(map(_film, films))))
    return page(f"Evaluation of {policy}", command, sections)


def page(title: str, command: str, sections: Sequence[Section]) -> str:
    """An HTML file of sections."""
    body = "".join(f"<h2>{html.escape(s.title)}</h2>\n{s.body}\n" for s in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f'<p class="note"><code>{html.escape(command)}</code></p>\n{body}</body></html>\n'
    )


def _first_of_each_task(cells: Sequence[Cell]) -> list[Cell]:
    found: dict[tuple[str, bool], Cell] = {}
    for cell in cells:
        found.setdefault((cell.task, cell.is_swapped), cell)
    return list(found.values())


def _cells_table(cells: Sequence[Cell]) -> str:
    titles = (
        *("task", "prompts", "method", "delay, ms", "loss", "held"),
        *("success", "95 %", "", "time, s", "jerk, rad/s³", "at borders", "holds"),
    )
    rows = []
    for cell in cells:
        given, (low, high) = cell.conditions, cell.success.interval
        network = (given.delay_ms, given.loss, given.held)
        bar = f'<span class="bar" style="width:{6 * cell.success.value:.2f}rem"></span>'
        rows.append(
            (
                *(cell.task, "swapped" if cell.is_swapped else "plain", given.method),
                *("real" if given.is_real else f"{value:g}" for value in network),
                *(f"{cell.success.count} / {cell.success.total}", f"{low:.2f}–{high:.2f}", bar),
                *(
                    _number(cell.seconds, 2),
                    f"{cell.rms_jerk:.0f}",
                    _number(cell.border_jerk),
                    f"{cell.holds:.1f}",
                ),
            )
        )
    return table(titles, rows) + f'<p class="note">{_note(cells[0].conditions)}</p>'


def _note(first: Conditions) -> str:
    played = f"each chunk is played for {first.execution_s:g} s before the next observation."
    if first.is_real:
        said = f"Real time, over ROS and the network of this machine; {played}"
    else:
        said = (
            f"Simulated time: the policy takes {first.inference_ms:g} ms beside the network's "
            f"delay, and {played} held: share of the control periods in which no command reaches "
            f"the arm."
        )
    return (
        f"{said} swapped: the same starts, and the next colour in the prompt. Intervals are "
        f"Wilson's."
    )


def _subtasks_table(cells: Sequence[Cell]) -> str:
    rows = [
        (cell.task, "swapped" if cell.is_swapped else "plain", _share(cell.subtasks))
        for cell in cells
        if cell.subtasks.total
    ]
    said = "The planner's subtasks that name the stage at which the scripted expert would be."
    return table(("task", "prompts", "agree"), rows) + f'<p class="note">{said}</p>'


def _confusion(cell: Cell) -> str:
    rows = []
    for index, (colour, counts) in enumerate(zip(COLOURS, cell.confusion, strict=True)):
        cells = [
            f'<td class="own">{n}</td>' if column == index else f"<td>{n}</td>"
            for column, n in enumerate(counts)
        ]
        rows.append(f"<tr><td>{colour}</td>{''.join(cells)}</tr>")
    titles = "".join(f"<th>{name}</th>" for name in ("prompt \\ chosen", *COLOURS, NOTHING))
    if cell.is_swapped:
        title = f"{cell.task}, the next colour in the prompt"
        said = f"the colour before: {_share(cell.plain_cube)}"
    else:
        title = cell.task
        said = f"scored by shuffled prompts: {_share(cell.shuffled)}"
    return (
        f"<figure><figcaption>{html.escape(title)}; {said}</figcaption>"
        f"<table><tr>{titles}</tr>{''.join(rows)}</table></figure>"
    )


def _film(result: TrialResult) -> str:
    data = base64.b64encode(result.film).decode()
    outcome = "time is up" if result.outcome.value == "running" else result.outcome.value
    caption = f"{result.trial.prompt}, start {result.trial.index}: {outcome}"
    return (
        f'<figure><video controls muted preload="metadata" width="480" '
        f'src="data:video/mp4;base64,{data}"></video>'
        f"<figcaption>{html.escape(caption)}, {result.seconds:.1f} s</figcaption></figure>"
    )


def image(png: bytes, description: str) -> str:
    """A picture inside of the file."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">'


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    lines = "".join(f"<tr>{''.join(f'<td>{v}</td>' for v in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def _number(value: float, digits: int = 0) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.count} / {share.total} ({low:.2f}–{high:.2f})"
