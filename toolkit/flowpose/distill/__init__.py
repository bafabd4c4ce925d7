"""Distillation: a many-step teacher becomes a one-step student. One record, one function, one row a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flowpose.artifact import Artifact
from flowpose.distill.trajectory import distill_trajectory
from flowpose.job import Job
from flowpose.spec.recipe import TrajectoryDistillation

METHODS: Mapping[type, Callable[[Job], Artifact]] = MappingProxyType(
    {TrajectoryDistillation: distill_trajectory}
)

__all__ = ["METHODS", "distill"]


def distill(job: Job) -> Artifact:
    """Makes the student artifact by the recipe's method."""
    return METHODS[type(job.recipe.distill)](job)
