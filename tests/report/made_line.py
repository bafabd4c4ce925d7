"""A whole line of hand-made manifests below a root, with numbers that nothing else has, and a report of its engine."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from flowpose import image
from flowpose.artifact import Artifact, ancestors, creating, open_artifact, place
from flowpose.report.html import StageRow
from flowpose.report.run_record import LATENCY, REPORT, SHEET, WORST
from flowpose.spec.manifest import GateResult, Measurement

NAME = "made"
METRICS = ("psnr", "own_lpips", "spectrum_top", "pck", "jitter")
KINDS = {
    "autoencoder": "autoencoder", "train": "model", "regressor": "student", "teacher_finish": "model",
    "distill": "student", "finish": "student", "quantize": "quantized", "export": "graph", "compile": "engine",
}  # fmt: skip
LABELS = {
    "train": "teacher-16", "regressor": "l1", "teacher_finish": "teacher-16", "distill": "student-1",
    "finish": "student-1",
}  # fmt: skip
PARENTS = {"regressor": "train", "teacher_finish": "train", "distill": "train", "quantize": "finish"}
SIZES = {
    "size_frame.fp32": 3.51, "size_frame.int8": 3.97, "size_teacher.frame": 4.43, "size_l1.frame": 3.29,
    "size_source": 2.61,
}  # fmt: skip
CARD = {"data": "drawn <b>people</b> & co", "licence": "CC0 1.0", "flaws": 'hands are "small"'}


def key_of(stage: str, name: str = NAME) -> str:
    return hashlib.sha256(f"{name}/{stage}".encode()).hexdigest()


def numbers(label: str, stage: str) -> list[Measurement]:
    """Measurements of a row that no other stage has, the same ones in every process."""
    rng = random.Random(f"{stage}/{label}")
    return [
        Measurement(
            metric=metric, value=round(rng.uniform(0.1, 30), 6), n=rng.randint(20, 90), set="people/val", stage=label
        )
        for metric in METRICS
    ]  # fmt: skip


def measured(stage: str) -> list[Measurement]:
    if stage == "autoencoder":
        return [Measurement(metric="psnr", value=33.217, n=311, unit="dB", set="people/val", stage=stage)]
    if stage == "export":
        return [
            Measurement(metric=m, value=v, n=1, unit="MB", set="people/val", stage=stage)
            for m, v in SIZES.items()
        ]
    if stage in LABELS:
        return numbers(LABELS[stage], stage)
    return []


CONTEST = [
    {"backend": "openvino", "precision": "int8", "p50": 8.125, "p95": 9.0625, "n": 100, "ratio": 1.0, "chosen": True,
     "reason": "1.68 times as fast <& more>", "int8_layers": 42, "float_layers": 12, "conversions": 48},
    {"backend": "openvino", "precision": "fp32", "p50": 13.6875, "p95": 15.5, "n": 100, "ratio": 1.68, "chosen": False,
     "reason": "slower"},
]  # fmt: skip


def make_line(
    root: Path,
    stages: Sequence[str] = tuple(KINDS),
    gates: Mapping[str, Sequence[GateResult]] | None = None,
    name: str = NAME,
    **fields: Any,
) -> dict[str, Artifact]:
    """Stage -> artifact; `fields` go into the engine's manifest."""
    made: dict[str, Artifact] = {}
    for stage in stages:
        before = PARENTS.get(stage, "")
        parent = made.get(before) or next(
            (made[each] for each in reversed(list(made)) if each not in ("regressor", "teacher_finish")), None
        )
        config: dict[str, Any] = {"name": stage, stage: {"optim": {"iterations": 100}}}
        if stage == "autoencoder":
            config |= {"data": {"source": "folder", "path": "people"}, "data_digest": "d" * 64}
        if stage == "quantize":
            config["quantize"] = {"method": "int8"}
        if stage == "export":
            config |= {
                f"{each}_key": key_of(each) for each in ("regressor", "teacher_finish") if each in made
            }
        own: dict[str, Any] = {
            "kind": KINDS[stage], "name": name, "key": key_of(stage), "stage": config,
            "parent": parent.manifest.key if parent else None, "image": {"height": 128, "width": 88},
            "pose": {"format": "coco-wholebody-133", "joints": 133}, "measurements": measured(stage),
            "gates": list((gates or {}).get(stage, ())), "history": ancestors(parent) if parent else (),
            "built_with": {"python": "3.11.7", "flowpose": "0.1.0"}, "card": CARD,
        }  # fmt: skip
        if stage == "compile":
            own |= {
                "stage": {"precision": "auto", "threads": 2}, "backend": "openvino", "precision": "int8",
                "target": {"name": "cpu"}, "contest": CONTEST, **fields,
            }  # fmt: skip
        with creating(place(root, NAME, stage, key_of(stage)), **own) as draft:
            (draft / "weights").write_text(stage)
            if stage == "quantize":
                (draft / "sensitivity.json").write_text(json.dumps({"layers": LAYERS}))
        made[stage] = open_artifact(place(root, NAME, stage, key_of(stage)))
    return made


LAYERS = [{"layer": f"flow.<{at}>.up", "psnr": 41.5 + at, "low": 38.25 + at} for at in range(25)]
ROWS = [
    StageRow("truth", psnr=100.0, own_lpips=0.0),
    StageRow("l1", 1, "fp32", 5.9, None, None, 0.431, 1.72, 20.49, 0.77, 0.1834, 0.847, 2.65),
    StageRow(
        "teacher-16", 16, "fp32", 7.04, 144.517, 152.718, 0.843, 1.03, 18.92, 0.705, 0.2204, 0.846, 3.75
    ),
    StageRow("student-1", 1, "fp32", 6.12, 20.903, 24.041, 0.861, 0.97, 19.74, 0.742, 0.1821, 0.876, 3.53),
    StageRow("int8", 1, "int8", 6.58, 13.418, 15.847, 0.859, 0.98, 19.72, 0.741, 0.1825, 0.873, 3.71),
    StageRow("teacher-50", 50, "fp32", 7.04, 428.539, 442.603),
]
MS = {"student-1": 20.9, "int8": 13.4, "teacher-16": 144.5, "teacher-50": 428.5}


def make_report(
    root: Path, made: Mapping[str, Artifact], date: str = "2026-11-26 06:30 UTC", **record: Any
) -> Path:
    """The report of the line's engine beside it; returns its folder."""
    folder = root / NAME / "report-made"
    folder.mkdir(parents=True)
    picture = np.full((40, 60, 3), 128, np.uint8)
    image.write(folder / SHEET, picture)
    image.write(folder / WORST, picture)
    judged = [
        Measurement(
            metric="own_lpips", value=row.own_lpips, n=64, set="people/val", stage=row.stage
        ).model_dump()
        for row in ROWS
        if row.own_lpips is not None
    ]
    every = [m.model_dump() for each in made.values() for m in each.manifest.measurements]
    text = {
        "recipe": NAME, "engine": key_of("compile"), "rows": [asdict(row) for row in ROWS], "format": 1,
        "measurements": [*every, *judged], "made": date, "target": "cpu", "data": "people/val",
        "pairs": 64, "seed": 0, "training": {
            "train joints": {"iterations": 10, "counted": 5, "seconds": 2.0},
            "train": {"iterations": 40, "counted": 40, "seconds": 80.0},
            "finish": {"iterations": 600, "counted": 300, "seconds": 450.0},
        },
        "worst": [{"pair": 17, "scores": {"own_lpips": 0.4123, "pck": 0.25}, "beside": {"teacher-16": 0.39},
                   "why": "joints are <not> where they were asked"}],
        "predicted": [{"target": "jetson", "mode": "15W", "backend": "tensorrt", "precision": "fp16",
                       "frame_ms": 1.8125,
                       "fps": 551.7, "source_ms": 0.93, "compute": 0.2, "memory": 0.1, "launch": 0.7}],
        "commands": ["flowpose run made --target cpu"], **record,
    }  # fmt: skip
    (folder / REPORT).write_text(json.dumps(text))
    (folder / LATENCY).write_text(json.dumps(latency()))
    return folder


def latency() -> dict[str, Any]:
    stages = [
        {"label": label, "stage": "frame", "n": 20, "mean": ms, "p50": ms, "p90": ms, "p95": ms, "p99": None,
         "fps": 1000 / ms,
         "ms": [ms + at / 7 for at in range(20)]}
        for label, ms in MS.items()
    ]  # fmt: skip
    machine = {
        "cpu": "EPYC", "cores": 2, "arch": "x86_64", "system": "Linux 6", "memory_mb": 24000,
        "versions": {"numpy": "2.4.6"},
    }  # fmt: skip
    return {"machine": machine, "stages": stages}


VOID = {"meta", "img", "br", "path", "rect"}


class Page(HTMLParser):
    """Reads a page strictly: every tag closes in its place; keeps tables, texts, attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self._rows, self._cell, self._label = "", [], None, ""
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if dict(attrs).get("class") == "scroll":
            self._label = dict(attrs)["aria-label"] or ""
        if tag == "table":
            self._rows = self.tables.setdefault(self._label, [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._cell = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("th", "td") and self._cell is not None:
            self._rows[-1].append(self._cell)
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"
        if self._cell is not None:
            self._cell += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def column(self, table: str, head: str, row: str) -> str:
        """The cell of a table under a heading in the row that begins with a text."""
        heads, *rows = self.tables[table]
        return next(each for each in rows if each[0] == row)[heads.index(head)]
