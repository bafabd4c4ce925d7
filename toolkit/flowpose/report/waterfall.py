"""The waterfall of a run: what each stage leaves of a frame's time and of the files, and what it does to the picture.

Steps are made once; the page's table, the drawing, the terminal and the README's text all show the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from flowpose.report.html import COLUMNS, StageRow, number
from flowpose.report.line import STUDENT, Line, Stage, precision_of
from flowpose.report.run_record import RunRecord
from flowpose.spec.manifest import Contestant

QUALITY = ("psnr", "own_lpips", "spectrum_top", "pck", "jitter")
REDUCED = ("int8", "fp8")  # precisions that stage quantize makes
GRAPH, HOST = "graphs", "PyTorch"
MEASURED, COMPILED = "measured", "by compile"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage in the waterfall; None is what nobody measured.

    Attributes:
        stage, key: of its artifact.
        form: the row of what it made.
        ms_p50, ms_p95: of a frame; `timed` says how they are known: measured, by compile, or predicted for a target.
        megabytes: of the source graph and one frame graph; of stage export of all graphs.
        psnr, own_lpips, spectrum_top, pck, jitter: see `StageRow`; of the autoencoder what it gives back of a picture.
        n: pairs of own_lpips, of the autoencoder pictures.
        judged: by what the pictures were drawn: graphs, or PyTorch before there are any.
        seconds: of training, at the pace of the steps that were counted.
    """

    stage: str
    key: str
    form: str | None = None
    ms_p50: float | None = None
    ms_p95: float | None = None
    timed: str = ""
    megabytes: float | None = None
    psnr: float | None = None
    own_lpips: float | None = None
    spectrum_top: float | None = None
    pck: float | None = None
    jitter: float | None = None
    n: int | None = None
    judged: str = ""
    seconds: float | None = None


Column = tuple[str, Callable[[Step], str]]
STEP_COLUMNS: tuple[Column, ...] = (
    ("stage", lambda step: step.stage),
    ("makes", lambda step: step.form or "-"),
    ("ms p50", lambda step: number(step.ms_p50, 2)),
    ("ms p95", lambda step: number(step.ms_p95, 2)),
    ("timed", lambda step: step.timed or "-"),
    ("MB", lambda step: number(step.megabytes, 2)),
    ("PSNR dB", lambda step: number(step.psnr, 2)),
    ("own-LPIPS", lambda step: number(step.own_lpips, 3)),
    ("top octave", lambda step: number(step.spectrum_top, 2)),
    ("PCK@0.1", lambda step: number(step.pck, 3)),
    ("jitter", lambda step: number(step.jitter, 2)),
    ("judged on", lambda step: f"{step.n}, {step.judged}" if step.judged else "-"),
    ("training s", lambda step: number(step.seconds, 0)),
)
"""Heading, and the text of a step."""

WORDS = ("stage", "makes", "timed", "judged on")  # columns of words, set to the left
SHORT: Mapping[str, str] = MappingProxyType(
    {
        "stage": "stage",
        "makes": "makes",
        "ms p50": "ms p50",
        "timed": "timed",
        "MB": "MB",
        "own-LPIPS": "LPIPS",
        "top octave": "octave",
        "PCK@0.1": "PCK",
    }
)
"""Heading -> what it is called on a terminal of 80 columns, where the others have no room."""

LEGEND = (
    "MB: source graph and one frame graph, of stage export all of them. PSNR of the autoencoder: of what it gives back."
    " own-LPIPS: lower is better. top octave: amplitude of the finest detail, 1 is as sharp as the truth. PCK: share of"
    " joints that are where they were asked. jitter: levels a pixel, of a still pose whose joints are moved a little."
    " judged on: pairs (of the autoencoder pictures), drawn by graphs, or by PyTorch before there were any."
    " training s: the pace of the steps that were counted, times all steps."
)


@dataclass(frozen=True)
class Expected:
    """What a frame should take on a target that nobody measured: precision -> milliseconds."""

    target: str
    ms: Mapping[str, float]


def steps(line: Line, record: RunRecord, expected: Expected | None = None) -> tuple[Step, ...]:
    """Returns a step for each stage of a line.

    A form that was measured as a graph has those numbers; else those that its stage measured in PyTorch. Of a teacher
    that got a finish, and of a student that did, only the finished one is a graph.

    Args:
        line: the stages.
        record: what the report measured; without rows all comes from the manifests.
        expected: taken where nothing was measured, and said to be predicted.
    """
    exported = {
        each.name: form
        for names, form in (
            (("teacher_finish", "train"), teacher_row(line, record)),
            (("regressor",), "l1"),
            (("finish", "distill"), STUDENT),
            (("quantize",), _quantized(line)),
            (("compile",), line.own_row),
        )
        if (each := line.of(*names)) is not None
    }
    return tuple(_step(stage, exported.get(stage.name), line, record, expected) for stage in line.stages)


def teacher_row(line: Line, record: RunRecord) -> str | None:
    """Returns the teacher's row: the one with most evaluations of those timed and judged, else of those judged."""
    judged = {m.stage for m in line.measurements if m.metric == "own_lpips"}
    judged |= {row.stage for row in record.rows if row.own_lpips is not None}
    timed = {row.stage for row in record.rows if row.ms_p50 is not None}
    teachers = [row for row in judged & timed or judged if _evaluations(row)]
    return max(teachers or [row for row in judged if _evaluations(row)], key=_evaluations, default=None)


def _evaluations(row: str) -> int:
    kind, _, steps = row.partition("-")
    return int(steps) if kind == "teacher" and steps.isdigit() else 0


def _quantized(line: Line) -> str | None:
    """The row of the quantized student: the reduced precision of the graphs, else the method before there are any."""
    stage = line.of("quantize")
    method = dict(stage.config.get("quantize", {})).get("method") if stage else None
    return next((each for each in REDUCED if f"size_frame.{each}" in line.sizes or each == method), None)


def _step(stage: Stage, form: str | None, line: Line, record: RunRecord, expected: Expected | None) -> Step:
    row = record.row(form) if form else None
    own = form or (teacher_row(line, record) if stage.name == "train" else STUDENT)
    found = {m.metric: m for m in stage.measurements if m.stage == own}
    step = Step(
        stage=stage.name, key=stage.key, form=form or _unexported(stage, own, bool(found)),
        megabytes=_megabytes(stage, form, row, line), seconds=record.seconds(stage.name),
        **_timed(form, row, line, expected),
    )  # fmt: skip
    if row is not None and row.own_lpips is not None:
        values = {name: getattr(row, name) for name in QUALITY}
        measured = record.measured(row.stage, "own_lpips")
        return _with(step, values, measured.n if measured else None, GRAPH)
    if "own_lpips" in found:
        return _with(step, {name: m.value for name, m in found.items()}, found["own_lpips"].n, HOST)
    own_psnr = next(
        (m for m in stage.measurements if (stage.name, m.metric) == ("autoencoder", "psnr")), None
    )
    return _with(step, {"psnr": own_psnr.value}, own_psnr.n, HOST) if own_psnr else step


def _with(step: Step, values: Mapping[str, float | None], n: int | None, judged: str) -> Step:
    held = {each.name: getattr(step, each.name) for each in fields(step)}
    return Step(**{**held, **{name: values.get(name) for name in QUALITY}, "n": n, "judged": judged})


def _unexported(stage: Stage, row: str | None, judged: bool) -> str | None:
    """What a stage made that is no row of its own."""
    if stage.name == "export":
        files = sum(m.unit == "MB" for m in stage.measurements)
        return f"{files} graphs" if files else None
    return row if judged else None


def _megabytes(stage: Stage, form: str | None, row: StageRow | None, line: Line) -> float | None:
    if stage.name == "export":
        return sum(m.value for m in stage.measurements if m.unit == "MB") or None
    if row is not None and row.megabytes is not None:
        return row.megabytes
    return megabytes(form, line.sizes) if form else None


def megabytes(row: str, sizes: Mapping[str, float]) -> float | None:
    """Returns the MB of the two graphs of a form, from the sizes that export measured; None where there are none."""
    source = sizes.get("size_source")
    frame = sizes.get(f"size_frame.{precision_of(row)}")
    kind = row.partition("-")[0]
    if frame is None:  # a reference; the student's two steps share its own source graph
        frame, source = sizes.get(f"size_{kind}.frame"), sizes.get(f"size_{kind}.source", source)
    return None if frame is None or source is None else frame + source


def _timed(form: str | None, row: StageRow | None, line: Line, expected: Expected | None) -> dict[str, Any]:
    """Latency and how it is known: measured in turns with the others, by compile when it chose, or predicted."""
    if row is not None and row.ms_p50 is not None:
        return {"ms_p50": row.ms_p50, "ms_p95": row.ms_p95, "timed": MEASURED}
    contestant = contestant_of(form, line) if form else None
    if contestant is not None:
        return {"ms_p50": contestant.p50, "ms_p95": contestant.p95, "timed": COMPILED}
    precision = precision_of(form) if form else ""
    if expected is not None and precision in expected.ms:
        return {"ms_p50": expected.ms[precision], "timed": f"predicted for {expected.target}"}
    return {}


def contestant_of(row: str, line: Line) -> Contestant | None:
    """Returns how compile timed a form: in its precision and the engine's backend."""
    precision = precision_of(row)
    own = [each for each in line.head.contest if each.precision == precision]
    return next((each for each in own if each.backend == line.head.backend), None)


def markdown(made: Sequence[Step]) -> str:
    """Returns the waterfall as a Markdown table, the same texts as the page's."""
    return _markdown(
        [head for head, _ in STEP_COLUMNS],
        [[text(step) for _, text in STEP_COLUMNS] for step in made],
        {head for head in WORDS},
    )


def markdown_forms(rows: Sequence[StageRow]) -> str:
    """Returns the table of forms as a Markdown table, the same texts as the page's."""
    return _markdown([head for head, _ in COLUMNS], [form_cells(row) for row in rows], {"stage", "precision"})


def form_cells(row: StageRow) -> list[str]:
    """Returns the texts of a line of the table of forms, under the headings of COLUMNS."""
    values = [getattr(row, each.name) for each in fields(row)]
    return [number(value, digits) for value, (_, digits) in zip(values, COLUMNS, strict=True)]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], words: set[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    marks = ["---" if head in words else "---:" for head in heads]
    return "\n".join([line(heads), f"|{'|'.join(marks)}|", *(line(row) for row in rows)])


@dataclass(frozen=True)
class Fall:
    """A bar of the drawing: a form on the way from the teacher to the engine.

    Attributes:
        row: its form.
        label: the same with what it is, in a few words.
        ms, megabytes: what it costs; None where not known.
    """

    row: str
    label: str
    ms: float
    megabytes: float | None


def falls(line: Line, record: RunRecord, made: Sequence[Step]) -> tuple[Fall, ...]:
    """Returns the forms with a known latency from the slowest teacher to the engine, each once."""
    found: dict[str, Fall] = {}
    for row in sorted(record.rows, key=lambda each: -_evaluations(each.stage)):
        if _evaluations(row.stage) and row.ms_p50 is not None:
            text = f"{row.stage}: {row.steps} evaluations, {row.precision}"
            found[row.stage] = Fall(row.stage, text, row.ms_p50, row.megabytes)
    for step in made:
        if step.form is not None and step.form in (STUDENT, line.own_row) and step.ms_p50 is not None:
            found[step.form] = Fall(
                step.form, "".join(_label(step.form, line, step)), step.ms_p50, step.megabytes
            )
    return tuple(found.values())


def _label(row: str, line: Line, step: Step) -> Iterator[str]:
    yield f"{row}: one evaluation, {precision_of(row)}"
    if row == line.own_row and line.head.kind == "engine":
        yield f", the engine on {line.head.backend}"
    if step.timed != MEASURED:
        yield f" ({step.timed})"
