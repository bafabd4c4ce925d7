"""A teacher with its best middle and a two-step student of it, both random, in the places of a real line."""

from __future__ import annotations

import shutil
from pathlib import Path

from quantize.tiny_student import generator, make_artifact, recipe

from flowpose.artifact import Artifact, ancestors, creating, open_artifact, place, stage_key
from flowpose.job import Job, stage_config
from flowpose.model.weights import GENERATOR, save_weights

SPEC = recipe(
    "evaluate.teacher_steps=[1, 2]", "evaluate.latency_steps=[3]", "evaluate.latency_runs=2", "evaluate.pairs=2",
    "evaluate.sheet=2",
)  # fmt: skip


def lined_up(root: Path, middle: float = 0.4) -> Artifact:
    """A teacher with its own t_mid, and a student of it with two steps."""
    teacher = make_artifact(root / "made", "model", SPEC)
    fields = teacher.manifest.model_dump(exclude={"files", "self_sha256"})
    measured = {"metric": "t_mid", "value": middle, "n": 4, "set": "figures/val", "stage": "teacher-2"}
    with creating(
        place(root, "tiny", "train", teacher.manifest.key), **{**fields, "measurements": [measured]}
    ) as draft:
        shutil.copyfile(teacher.file(GENERATOR), draft / GENERATOR)
    teacher = open_artifact(place(root, "tiny", "train", teacher.manifest.key))
    changes = {
        "kind": "student", "times": (0.0, 0.25, 1.0), "history": ancestors(teacher), "measurements": (),
        "parent": teacher.manifest.key, "key": stage_key(teacher.manifest.key, "distill", {}),
        "stage": {"name": "distill", **stage_config(SPEC, "distill")},
    }  # fmt: skip
    with creating(place(root, "tiny", "distill", changes["key"]), **{**fields, **changes}) as draft:
        save_weights(generator(SPEC, student=True), draft / GENERATOR)
    return open_artifact(place(root, "tiny", "distill", changes["key"]))


def job_of(root: Path, student: Artifact) -> Job:
    key = stage_key(student.manifest.key, "export", {})
    return Job(recipe=SPEC, stage="export", key=key, root=root, parent=student)
