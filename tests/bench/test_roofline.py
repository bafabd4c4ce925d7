"""The roofline: identities that can be worked out on paper, and the peaks' loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest

from flowpose.bench import gemm_file, peaks
from flowpose.bench.roofline import (
    FAMILIES,
    FUSES_ALL,
    FUSES_LAYERS,
    FUSES_NONE,
    Family,
    Limits,
    Shares,
    against_roofline,
    cpu_limits,
    gpu_limits,
    predict,
)
from flowpose.errors import TargetMismatch
from flowpose.spec.costs import Amount, GraphCosts, Step
from flowpose.spec.reading import load_target

GPU = Limits("gpu", {"fp32": 1e12, "fp16": 4e12, "int8": 8e12}, 1e11, sms=16)
SHARES = Shares(conv=0.5, matmul=0.25, narrow=0.1)
PLAIN = Family(SHARES, SHARES, 0.8, 0.0, 0.0, FUSES_ALL, 1.0, "a test")
MACS = 10**9


def layer(**changes: object) -> Step:
    """A convolution whose arithmetic takes much longer than its memory traffic."""
    about = {"name": "layer", "op": "Conv", "kind": "conv", "macs": MACS, "inner": 64, "columns": 64}
    amounts = {"reads": Amount(floats=10**5), "writes": Amount(floats=10**5), "weights": Amount(floats=10**4)}
    return Step.model_validate({**about, **amounts, **changes})


def moved(count: int = 10**6, **changes: object) -> Step:
    """A step that only moves numbers."""
    amounts = {"reads": Amount(floats=count), "writes": Amount(floats=count)}
    return Step.model_validate({"name": "moved", "op": "Transpose", "kind": "other", **amounts, **changes})


def graph(*steps: Step, width: int = 4) -> GraphCosts:
    return GraphCosts.model_validate({"file": "frame.onnx", "width": width, "steps": steps})


def ms(*steps: Step, limits: Limits = GPU, family: Family = PLAIN, width: int | None = None) -> float:
    return predict(graph(*steps), limits, family, width=width).ms


@pytest.mark.parametrize(
    ("changes", "peak", "share"),
    [
        ({}, 1e12, 0.5),
        ({"kind": "matmul"}, 1e12, 0.25),
        ({"inner": 15}, 1e12, 0.1),
        ({"columns": 1}, 1e12, 0.1),
        ({"int8": True}, 8e12, 0.5),
    ],
)
def test_a_compute_bound_layer_takes_its_arithmetic(
    changes: dict[str, object], peak: float, share: float
) -> None:
    found = predict(graph(layer(**changes)), GPU, PLAIN)
    assert found.ms == pytest.approx(2 * MACS / peak / share * 1e3) == pytest.approx(found.compute_ms)
    assert found.memory_ms == found.launch_ms == 0


def test_halving_the_bandwidth_doubles_a_memory_bound_step() -> None:
    found = ms(moved())
    assert found == pytest.approx(2 * 4e6 / 1e11 / 0.8 * 1e3)
    assert ms(moved(), limits=replace(GPU, bandwidth=GPU.bandwidth / 2)) == pytest.approx(2 * found)


def test_floats_of_two_bytes_halve_what_memory_bounds() -> None:
    assert ms(moved(), width=2) == pytest.approx(ms(moved()) / 2)


def test_without_codes_int8_is_fp16() -> None:
    """Of a graph in which nothing is quantized an INT8 form costs what the FP16 one does."""
    steps = (layer(), moved())
    assert graph(*steps).int8_share == 0
    other = replace(PLAIN, codes=Shares(0.9, 0.9, 0.9))
    assert ms(*steps, width=2) == ms(*steps, width=2, family=other)
    assert ms(*steps, width=2, limits=replace(GPU, peaks={**GPU.peaks, "int8": 1.0})) == ms(*steps, width=2)


def test_codes_help_only_the_share_that_they_are() -> None:
    both = ms(layer(int8=True), layer())
    assert both == pytest.approx(ms(layer()) * (1 / 2 + 1 / 16) * 2)
    assert graph(layer(int8=True), layer()).int8_share == 0.5


@pytest.mark.parametrize("tiles", [1, 5, 16, 400])
def test_more_sms_are_never_slower(tiles: int) -> None:
    step = layer(writes=Amount(floats=tiles * 64 * 64), reads=Amount())
    times = [
        ms(step, limits=replace(GPU, sms=sms, peaks={"fp32": sms * 1e11})) for sms in (1, 2, 4, 8, 16, 32)
    ]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(times))
    if tiles == 1:
        assert len({round(each, 9) for each in times}) == 1, "one tile runs on one SM"


def test_fused_steps_hand_their_numbers_on_without_memory() -> None:
    steps = (layer(macs=1), moved(reads=Amount(), fused="layer"), moved(reads=Amount(), fused="layer"))
    fused, apart = (
        predict(graph(*steps), GPU, replace(PLAIN, fuses=each, launch_us=1.0))
        for each in (FUSES_ALL, FUSES_NONE)
    )
    assert (fused.groups, apart.groups) == (1, 3)
    assert fused.memory_ms == pytest.approx((1.1e5 + 1e6) * 4 / 1e11 / 0.8 * 1e3)
    assert apart.memory_ms == pytest.approx((2.1e5 + 1.1e6 + 2e6) * 4 / 1e11 / 0.8 * 1e3)
    assert apart.launch_ms == pytest.approx(3 * fused.launch_ms)
    chain = (moved(), moved(reads=Amount(), fused="chain"))
    assert predict(graph(*chain), GPU, replace(PLAIN, fuses=FUSES_LAYERS)).groups == 2


def test_threads_share_all_but_launches() -> None:
    family = replace(PLAIN, launch_us=10.0, run_us=5.0, second_thread=0.8)
    one, two = (
        predict(graph(layer(), moved()), Limits("cpu", {"fp32": 1e12}, 1e11, threads=n), family)
        for n in (1, 2)
    )
    assert (
        one.compute_ms / two.compute_ms == pytest.approx(1.8) == pytest.approx(one.memory_ms / two.memory_ms)
    )
    assert one.launch_ms == two.launch_ms == pytest.approx(0.025)


def test_an_unknown_rate_is_no_guess() -> None:
    with pytest.raises(TargetMismatch, match="rate is not known, got fp8, expected one of fp32, fp16, int8"):
        ms(layer(fp8=True))


def test_a_measurement_beside_the_prediction() -> None:
    found = predict(graph(layer()), GPU, PLAIN)
    beside = against_roofline(found, 2 * found.ms)
    assert beside.ratio == pytest.approx(2)
    assert beside.share_of_limit == pytest.approx(0.25), (
        "half of the peak was expected, half of that was seen"
    )
    assert found.bound_ms == pytest.approx(2 * MACS / 1e12 * 1e3)


def test_limits_follow_mode_sms_and_clock() -> None:
    target = load_target("jetson-agx-orin-64gb")
    assert target.gpu is not None and target.gpu.default is not None
    named = gpu_limits(target, target.gpu.default)
    seen = gpu_limits(target, target.gpu.best, sms=8, mhz=612)
    assert named.peaks == seen.peaks and named.sms == 8
    with pytest.raises(TargetMismatch, match="has no measured peaks"):
        cpu_limits(load_target("cpu-arm64"), 4)


def test_every_backend_of_every_target_has_a_family_or_no_peaks() -> None:
    for (device, backend), family in FAMILIES.items():
        assert family.source, (device, backend)
        assert all(
            0 < each <= 1 for shares in (family.floats, family.codes) for each in vars(shares).values()
        )
    for name in ("rtx-4090", "h100", "cpu"):
        target = load_target(name)
        device = "cpu" if target.gpu is None else "gpu"
        assert all((device, backend) in FAMILIES for backend in target.backends)


@pytest.mark.parametrize(
    "make", [gemm_file.float_product, gemm_file.code_product, gemm_file.quantized_product]
)
def test_the_files_of_products_are_onnx(make: peaks.Form) -> None:
    model = onnx.load_model_from_string(make(4, 8, 16))
    onnx.checker.check_model(model, full_check=True)
    (made,) = model.graph.output
    assert [dim.dim_value for dim in made.type.tensor_type.shape.dim] == [4, 16]


def test_the_peaks_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "COPIED", 1 << 16)
    found = peaks.measure_peaks(("onnxruntime",), threads=1, n=3)
    assert found.rates == found.by["onnxruntime"] and set(found.rates) == {"fp32", "int8"}
    assert np.all(np.array([*found.rates.values(), found.bandwidth]) > 0) and found.n == 3
