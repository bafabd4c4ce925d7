"""The choice of a precision: planted timings and gates in, one entry and the words for it out."""

from __future__ import annotations

import pytest

from flowpose.compile import Entry, Quality, decide, quality_of
from flowpose.spec.manifest import Ancestor, GateResult

FREE = Quality(notes=("no gate",))


def entry(precision: str, p50: float, p95: float | None = None, backend: str = "openvino") -> Entry:
    return Entry(backend, precision, p50, p95 if p95 is not None else p50 * 1.1)


def choose(
    *entries: Entry, margin: float = 1.1, forced: bool = False, **qualities: Quality
) -> tuple[str, str]:
    """The chosen label, and the sentence."""
    known = {each.precision: qualities.get(each.precision, FREE) for each in entries}
    decision = decide(entries, known, margin=margin, forced=forced)
    assert decision.reasons.keys() == set(entries)
    return decision.chosen.label, decision.sentence


def test_a_reduced_precision_that_is_much_faster_is_kept() -> None:
    assert choose(entry("fp32", 15.0), entry("int8", 10.0)) == (
        "int8 openvino",
        "int8 openvino 10.00 ms is 1.50 times as fast as fp32 openvino: kept",
    )


def test_a_win_by_less_than_the_margin_is_none() -> None:
    slow, near = entry("fp32", 10.5), entry("int8", 10.0)
    assert choose(slow, near) == (
        "fp32 openvino",
        "int8 openvino 10.00 ms is only 1.05 times as fast as fp32 openvino (margin 1.1): fp32 kept",
    )
    assert choose(slow, near, margin=1.05)[0] == "int8 openvino"
    assert choose(entry("fp32", 10.0), near, margin=1.0)[0] == "int8 openvino"


def test_a_win_by_the_median_alone_is_none() -> None:
    assert choose(entry("fp32", 15.0, 16.0), entry("int8", 10.0, 17.0)) == (
        "fp32 openvino",
        "int8 openvino 10.00 ms is 1.50 times as fast as fp32 openvino, but only 0.94 times by p95 (margin 1.1): "
        "fp32 kept",
    )


def test_a_missed_margin_is_not_rounded_into_one() -> None:
    found, sentence = choose(entry("fp32", 10.999), entry("int8", 10.0))
    assert found == "fp32 openvino" and "only 1.09 times" in sentence


def test_a_failed_gate_is_a_reason_however_fast() -> None:
    failed = Quality("gate psnr failed (20, limit 35)")
    found, sentence = choose(entry("fp32", 15.0), entry("int8", 5.0), int8=failed)
    assert found == "fp32 openvino"
    assert sentence.endswith("as fast as fp32 openvino, and gate psnr failed (20, limit 35): fp32 kept")


def test_what_is_forced_is_taken_in_its_fastest_backend() -> None:
    entries = entry("int8", 9.0, backend="onnxruntime"), entry("int8", 8.0)
    failed = Quality("gate psnr failed (20, limit 35)")
    assert choose(*entries, forced=True, int8=failed) == (
        "int8 openvino",
        "int8 openvino 8.00 ms: forced, no other precision was measured",
    )


def test_a_single_precision_has_no_contest() -> None:
    assert choose(entry("fp32", 8.0)) == (
        "fp32 openvino",
        "fp32 openvino 8.00 ms: no other precision to measure",
    )


@pytest.mark.parametrize(
    ("fp16", "int8", "chosen"),
    [
        (8.0, 7.5, "fp16"),  # int8 is faster than fp32 by the margin, but not than fp16
        (8.0, 5.0, "int8"),
        (9.8, 8.0, "int8"),  # fp16 did not win, so int8 meets fp32
        (9.8, 9.7, "fp32"),
    ],
)
def test_fp16_stands_between(fp16: float, int8: float, chosen: str) -> None:
    found, sentence = choose(entry("int8", int8), entry("fp16", fp16), entry("fp32", 10.0))
    assert found == f"{chosen} openvino"
    assert sentence.count(";") == 1, "a part for fp16, and one for int8"


def test_a_failed_gate_of_int8_does_not_speak_against_fp16() -> None:
    entries = entry("fp32", 10.0), entry("fp16", 8.0), entry("int8", 2.0)
    assert choose(*entries, int8=Quality("gate psnr failed"))[0] == "fp16 openvino"


def test_the_best_of_full_precision_is_what_must_be_beaten() -> None:
    entries = entry("fp32", 20.0), entry("fp32", 10.5, backend="onnxruntime"), entry("int8", 10.0)
    found, sentence = choose(*entries)
    assert found == "fp32 onnxruntime" and "as fast as fp32 onnxruntime" in sentence


def test_a_backend_with_bad_p95_gives_way_to_the_next_of_its_precision() -> None:
    shaky, steady = entry("int8", 5.0, 30.0), entry("int8", 6.0, backend="onnxruntime")
    assert choose(entry("fp32", 10.0), shaky, steady)[0] == "int8 onnxruntime"


def test_every_entry_has_its_reason() -> None:
    full, other = entry("fp32", 10.0), entry("fp32", 12.5, backend="onnxruntime")
    fast, slow = entry("int8", 5.0), entry("int8", 8.0, backend="onnxruntime")
    known = {"fp32": Quality(), "int8": Quality(notes=("gate psnr holds (44, limit 35)",))}
    reasons = decide((full, other, fast, slow), known, margin=1.1).reasons
    assert reasons == {
        full: "int8 openvino is 2.00 times as fast, 2.00 times by p95 (margin 1.1)",
        other: "1.25 times as long as fp32 openvino",
        fast: "2.00 times as fast as fp32 openvino, 2.00 times by p95 (margin 1.1); gate psnr holds (44, limit 35)",
        slow: "1.60 times as long as int8 openvino",
    }


def line(*gates: GateResult, counts: dict[str, float] | None = None) -> tuple[Ancestor, ...]:
    """A quantized student with its gates, and a graph with what export counted."""
    rows = tuple(
        {"metric": name, "value": value, "n": 1, "set": "graph"} for name, value in (counts or {}).items()
    )
    fields = {"name": "small", "key": "a" * 64, "stage": {}}
    return Ancestor(kind="quantized", gates=gates, **fields), Ancestor(
        kind="graph", measurements=rows, **fields
    )


def gate(
    metric: str = "psnr_to_student", *, stage: str = "quantize", passed: bool = True, **further: str
) -> GateResult:
    return GateResult(
        stage=stage, metric=metric, limit=35, value=44.5 if passed else 30.1, passed=passed, **further
    )


def test_gates_that_hold_and_gates_that_are_not_there_are_told() -> None:
    assert quality_of(line(), "int8") == FREE
    assert quality_of(line(gate()), "int8") == Quality(None, ("gate psnr_to_student holds (44.5, limit 35)",))
    assert quality_of(line(gate()), "fp16") == FREE, "that gate is about INT8"
    assert quality_of(line(gate()), "fp32") == Quality()


@pytest.mark.parametrize("waived", [{}, {"waived": "a toy"}])
def test_a_failed_gate_disqualifies_waived_or_not(waived: dict[str, str]) -> None:
    found = quality_of(line(gate(passed=False, **waived)), "int8")
    told = ", waived: a toy" if waived else ""
    assert found.failed == f"gate psnr_to_student failed (30.1, limit 35{told})"


def test_gates_of_export_are_about_the_precision_in_their_name() -> None:
    history = line(gate("export.fp16_parity_mean", stage="export", passed=False))
    assert quality_of(history, "fp16").failed and not quality_of(history, "int8").failed


def test_gates_of_this_run_go_before_those_that_the_graph_keeps() -> None:
    assert quality_of(line(gate()), "int8", [gate(passed=False)]).failed
    assert quality_of(line(gate(passed=False)), "int8", []) == FREE


def test_what_export_counted_is_quoted() -> None:
    counts = {
        "int8_share": 0.78,
        "int8_layers": 42,
        "int8_float_islands": 11,
        "int8_boundaries": 24,
        "fp8_share": 1,
    }
    assert quality_of(line(counts=counts), "int8").notes == (
        "no gate",
        "in the graph: int8 share 0.78, int8 layers 42, float islands 11, boundaries 24",
    )
    assert quality_of(line(counts=counts), "fp16") == FREE
