from __future__ import annotations

from typing import Any

import pytest

from flowpose.errors import SpecError
from flowpose.spec.target import Target, within


def test_a_target_is_read(target_data: dict[str, Any]) -> None:
    target = Target.parse(target_data, "target")
    assert target.backends == ("onnxruntime",)
    assert target.budget.latency_ms_p95 is None
    assert target.arch == "any"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"backends": ["onnxrutime"]}, "target.backends.0: unknown value, got 'onnxrutime'"),
        ({"backends": ["onnxrutime"]}, "(did you mean 'onnxruntime'?)"),
        ({"backends": []}, "target.backends: too few values (0), got [], expected at least 1"),
        ({"precisions": ["int8", "int8"]}, "target.precisions: a value stands twice, got ['int8', 'int8']"),
        ({"precisions": ["in8"]}, "(did you mean 'int8'?)"),
        (
            {"arch": "arm64"},
            "target.arch: unknown value, got 'arm64', expected one of 'any', 'x86_64', 'aarch64'",
        ),
        ({"threads": 0}, "target.threads: too small, got 0, expected more than 0"),
        ({"budget": {"latency_ms_p95": -1}}, "target.budget.latency_ms_p95: too small, got -1"),
        ({"budget": {"latency_ms": 3}}, "(did you mean 'latency_ms_p95'?)"),
        ({"software": {"openvino": "2025"}}, "openvino: not a range of versions, got '2025'"),
        ({"name": "My Board"}, "target.name: wrong form, got 'My Board', expected the pattern"),
        ({"format": 2}, "target.format: unknown value, got 2, expected 1"),
    ],
)
def test_each_mistake_is_told(target_data: dict[str, Any], change: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        Target.parse({**target_data, **change}, "target")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("version", "versions", "inside"),
    [
        ("1.22.3", ">=1.20,<2", True),
        ("1.20", ">=1.20,<2", True),
        ("1.9", ">=1.20", False),
        ("2.0.0", "<2", False),
        ("2.0", "==2", True),
        ("10.3", ">=10.3, !=10.5", True),
        ("10.5.0", ">=10.3, !=10.5", False),
        ("2.13.0+cpu", "<=2.13", True),
        ("2.13.1rc1", ">2.13", True),
    ],
)
def test_versions_are_compared_number_by_number(version: str, versions: str, inside: bool) -> None:
    assert within(version, versions) is inside
