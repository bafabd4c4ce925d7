"""The page of a run: what was made and how good it is, from the waterfall to every measurement; one file for all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from flowpose.half_made import replace_file
from flowpose.report import run_sections as parts
from flowpose.report.html import COLUMNS, Bytes, anchor, contest_table, document, figures, section, table
from flowpose.report.line import Line, Verdict, verdict
from flowpose.report.run_record import RunRecord
from flowpose.report.waterfall import (
    LEGEND,
    SHORT,
    STEP_COLUMNS,
    WORDS,
    Expected,
    Step,
    falls,
    form_cells,
    markdown,
    markdown_forms,
    steps,
)
from flowpose.report.waterfall_svg import STYLE as FALLS
from flowpose.report.waterfall_svg import waterfall
from flowpose.spec.manifest import GateResult

STYLE = """
.lead{font-size:1.08rem;color:var(--ink);max-width:60rem}
.badge{display:inline-block;padding:.1rem .6rem;border:1.5px solid currentColor;border-radius:.4rem;font-weight:600}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;margin:1rem 0}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
nav ul{list-style:none;padding:0;margin:1rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.9rem}
svg.noise{width:9rem;height:.7rem;display:block}
.noise .low{stroke:var(--soft);stroke-width:3}.noise .mid{fill:var(--bar)}
"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that a page shows.

    Attributes:
        line: the stages, from their manifests.
        record: what the report measured; an empty one where there was no report.
        latency: what `latency.json` holds; None without.
        pictures: caption -> picture u8[H,W,3]: the contact sheet.
        worst: caption -> sheet of the worst cases.
        expected: of the target, where nothing was measured.
    """

    line: Line
    record: RunRecord
    latency: Mapping[str, Any] | None = None
    pictures: Mapping[str, Bytes] = field(default_factory=dict)
    worst: Mapping[str, Bytes] = field(default_factory=dict)
    expected: Expected | None = None

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """What was judged: by the run, where it kept that; histories of later artifacts may be older."""
        return self.record.gates or self.line.gates

    @property
    def steps(self) -> tuple[Step, ...]:
        """The waterfall."""
        return steps(self.line, self.record, self.expected)


def write_run(path: Path | str, found: Findings) -> Path:
    """Writes the page of a run and returns its path; missing folders are made.

    Raises:
        ImageError: a picture of the wrong shape or dtype.
    """
    path = Path(path)
    text = run_page(found)
    replace_file(path, text.encode("utf-8"))
    return path


def run_page(found: Findings) -> str:
    """Returns the page as one HTML text; see `write_run`."""
    made, line, record = found.steps, found.line, found.record
    bodies = {
        "Waterfall": waterfall(falls(line, record, made)) + _steps(made),
        "Forms": _forms(record),
        "Pictures": figures(found.pictures) or _absent("No contact sheet is beside the report."),
        "Worst cases": parts.worst(record, found.worst),
        "Latency": parts.latency(found.latency),
        "Gates": parts.gates(found.gates),
        "Why this precision": contest_table(line.head.contest or record.contest),
        "Sensitivity to quantization": parts.sensitivity(record.sensitivity),
        "Predicted on other targets": parts.predicted(record, line),
        "Training": parts.training(record),
        "Data and licence": parts.card(line),
        "Again": parts.again(record),
        "Environment": parts.environment(line, found.latency),
        "Made from": parts.history(line),
        "Every measurement": parts.measured(record.measurements or line.measurements),
    }
    shown = {title: body for title, body in bodies.items() if body}
    links = "".join(f'<li><a href="#{anchor(title)}">{escape(title)}</a></li>' for title in shown)
    body = _head(found, made) + f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    body += "".join(section(title, each) for title, each in shown.items())
    return document(f"{line.head.name}: report of a run", body, STYLE + FALLS)


LOOKS = {"met": "good", "waived": "warn", "failed": "bad", "none": "warn"}
"""What the verdict is -> its look."""


def _head(found: Findings, made: Sequence[Step]) -> str:
    """Verdict, the sentence, and what was made where and when."""
    line = found.line
    said = verdict(found.gates)
    facts = parts.identity(line, found.record, found.latency)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f'<p><span class="badge {LOOKS[said.kind]}">{escape(said.text)}</span></p>\n'
        f'<p class="lead">{escape(summary(found))}</p>\n<dl class="facts">{rows}</dl>\n'
        f"<details><summary>keys of all stages</summary>{_keys(made)}</details>\n"
    )


def _keys(made: Sequence[Step]) -> str:
    return table(("stage", "key"), [(step.stage, step.key) for step in made], words=True, label="keys")


def summary(found: Findings) -> str:
    """Returns what a run made in a few sentences with their numbers; what was not measured is said to be so."""
    line, record = found.line, found.record
    said = [_speed(line, record, found.steps), _quality(line, record), _verdict(verdict(found.gates))]
    return " ".join(each for each in said if each)


def _speed(line: Line, record: RunRecord, made: Sequence[Step]) -> str:
    own = next(
        (each for each in reversed(made) if each.form == line.own_row and each.ms_p50 is not None), None
    )
    if own is None:
        return f"{line.head.name}: no latency was measured of this {line.head.kind}."
    where = f" on {line.head.backend}, target {line.target}" if line.head.kind == "engine" else ""
    p95 = f" (p95 {own.ms_p95:.2f})" if own.ms_p95 is not None else ""
    size = f" and {own.megabytes:.2f} MB" if own.megabytes is not None else ""
    text = f"A frame takes {own.ms_p50:.2f} ms{p95}{size} as {own.form}{where}, {own.timed}"
    teacher = next((each for each in made if each.stage in ("train", "teacher_finish") and each.ms_p50), None)
    if teacher is None or teacher.ms_p50 is None or not own.ms_p50:
        return text + "."
    return f"{text}; {teacher.form} takes {teacher.ms_p50:.2f} ms, {teacher.ms_p50 / own.ms_p50:.1f} times as long."


def _quality(line: Line, record: RunRecord) -> str:
    own = record.row(line.own_row)
    teachers = [row for row in record.rows if row.stage.startswith("teacher-") and row.own_lpips is not None]
    if own is None or own.own_lpips is None:
        return ""
    on = record.measured(own.stage, "own_lpips")
    text = f"On {on.n} pairs of {on.set} its" if on else "Its"
    text += f" own-LPIPS is {own.own_lpips:.3f}" + (f", PCK {own.pck:.3f}" if own.pck is not None else "")
    if not teachers:
        return text + "."
    best = max(teachers, key=lambda row: row.steps or 0)
    pck = f", PCK {best.pck:.3f}" if best.pck is not None else ""
    return f"{text}; that of {best.stage} {best.own_lpips:.3f}{pck}."


def _verdict(said: Verdict) -> str:
    return f"{said.text[0].upper()}{said.text[1:]}."


def _steps(made: Sequence[Step]) -> str:
    rows = [[text(step) for _, text in STEP_COLUMNS] for step in made]
    return (
        table([head for head, _ in STEP_COLUMNS], rows, label="stages", tight=True)
        + f"<p>{escape(LEGEND)}</p>"
    )


def _forms(record: RunRecord) -> str:
    if not record.rows:
        return _absent("Nobody has drawn with the graphs of this line: flowpose run measures every form.")
    return table([head for head, _ in COLUMNS], [form_cells(row) for row in record.rows], label="forms")


def _absent(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def markdown_page(found: Findings) -> str:
    """Returns the sentence, the waterfall and the table of forms as Markdown."""
    texts = [summary(found), markdown(found.steps)]
    if found.record.rows:
        texts.append(markdown_forms(found.record.rows))
    return "\n\n".join(texts)


def stages_table(found: Findings) -> Table:
    """Returns the waterfall for the terminal."""
    title = f"{found.line.head.name}: from the stages to the {found.line.head.kind}"
    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    columns = [(head, text) for head, text in STEP_COLUMNS if head in SHORT]
    for head, _ in columns:
        left = head in WORDS
        made.add_column(SHORT[head], justify="left" if left else "right", no_wrap=head != "timed")
    for step in found.steps:
        made.add_row(*(text(step) for _, text in columns))
    return made


def plain(found: Findings) -> dict[str, Any]:
    """Returns the findings as JSON data: summary, verdict, steps, and the record."""
    said = verdict(found.gates)
    return {
        "name": found.line.head.name, "key": found.line.head.key, "verdict": said.kind, "gates": said.text,
        "summary": summary(found),
        "steps": [vars(step) for step in found.steps], "record": json.loads(found.record.model_dump_json()),
    }  # fmt: skip
