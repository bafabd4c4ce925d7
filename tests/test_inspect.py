"""`flowpose inspect`: the shipped model's layers add up to what quantization measured; scales; wrong kinds."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from calling import Call, caller
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tiny_graphs import make_artifact

from flowpose.artifact import Artifact, creating, open_artifact
from flowpose.export.tensorrt_rules import OPSETS
from flowpose.quantize import SCALES
from flowpose.spec.find import shipped

NAME = "people-128"
needs_model = pytest.mark.skipif(
    NAME not in shipped("models"), reason=f"the model {NAME} is not in this checkout"
)
NEVER_QUANTIZED = (
    "flow.source.match.project",
    "flow.carried",
    "detail.offsets.0",
    "detail.offsets.2",
    "/MatMul",
)
"""Layers of each frame that the stage quantize does not count: the match's tokens, what it carries, where it looks."""


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 80)


class Page(HTMLParser):
    """Checks that tags close; gathers text and what is loaded."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "rect"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def make_other(path: Path, kind: str, **fields: Any) -> Path:
    """An artifact of a kind without graphs."""
    about = {
        "name": "tiny", "key": "a" * 64, "stage": {}, "image": {"height": 24, "width": 16},
        "pose": {"format": "coco-wholebody-133", "joints": 133}, **fields,
    }  # fmt: skip
    with creating(path, kind=kind, **about) as draft:
        ranges = np.array([0.127, 1.27, 1.27], np.float32).reshape(3, 1, 1, 1)
        found = {"flow.up.weight_quantizer.amax": ranges, "flow.up.input_quantizer.amax": np.array(12.7, "f")}
        found["flow.up.input_quantizer.pre_quant_scale"] = np.ones(4, np.float32)
        save_file(found, draft / SCALES)
    return path


@needs_model
def test_the_layers_of_the_shipped_model_add_up(flowpose: Call, tmp_path: Path) -> None:
    """The graph has 1.9 % more than `frame_macs`, which leaves NEVER_QUANTIZED out; without them they are equal."""
    page = tmp_path / "new" / "people.html"
    said = flowpose("inspect", NAME, "--json", "--html", page)
    assert said.code == 0 and said.json["html"] == str(page)
    manifest = open_artifact(shipped("models")[NAME]).manifest
    measured = {m.metric: m.value for own in manifest.history for m in own.measurements}
    frames = {each["precision"]: each for each in said.json["graphs"] if each["rate"] == "frame"}
    for graph in frames.values():
        left_out = sum(layer["macs"] for layer in graph["layers"] if layer["name"] in NEVER_QUANTIZED)
        assert graph["macs"] - left_out == pytest.approx(measured["frame_macs"] * 1e6, rel=1e-9)
    int8 = frames["int8"]
    in_codes = sum(layer["macs"] for layer in int8["layers"] if layer["quantized"])
    assert in_codes / 1e6 / measured["frame_macs"] == pytest.approx(measured["int8_macs"], rel=1e-9)
    assert int8["coverage"]["share"] == pytest.approx(in_codes / int8["macs"])
    inputs = sum(len(layer["input_scales"]) for layer in int8["layers"] if layer["quantized"])
    assert int8["coverage"]["boundaries"] == inputs >= int8["coverage"]["quantized_layers"] > 40
    stored = {each["file"] for each in said.json["graphs"] if any(each["tensorrt"].values())}
    assert stored == {"source.onnx", "frame.fp32.onnx"} and {*int8["tensorrt"]} == {*OPSETS}
    assert frames["fp32"]["coverage"]["share"] == 0
    check_page(Page(page.read_text("utf-8")), page.read_text("utf-8"), said.json)


def check_page(page: Page, text: str, found: dict[str, Any]) -> None:
    assert page.links == [] and "http" not in text and "@import" not in text and "url(" not in text
    assert "prefers-color-scheme:dark" in text and "width=device-width" in text
    assert all(layer["name"] in page.text for graph in found["graphs"] for layer in graph["layers"])
    assert all(each["file"] in page.text for each in found["rates"])
    assert text.count('class="scales"') == sum(
        layer["weight_scales"] is not None for graph in found["graphs"] for layer in graph["layers"]
    )


@needs_model
def test_bytes_of_all_rates_are_the_files_constants(flowpose: Call) -> None:
    found = flowpose("inspect", NAME, "--json").json
    assert [each["rate"] for each in found["rates"]] == ["build"] * 3 + ["source", "frame", "frame"]
    for graph in found["graphs"]:
        constants = sum(each["bytes"] for each in found["rates"] if each["file"] == graph["file"])
        assert 0.85 * graph["file_bytes"] < constants < graph["file_bytes"]  # the rest is names and nodes
    fp32 = next(each for each in found["graphs"] if each["file"] == "frame.fp32.onnx")
    assert {layer["precision"] for layer in fp32["layers"]} == {"fp32"}, (
        "weights of a byte do not make a layer int8"
    )


@needs_model
def test_the_terminal_shows_totals_and_the_largest_layers(flowpose: Call) -> None:
    said, found = flowpose("inspect", NAME), flowpose("inspect", NAME, "--json").json
    assert said.code == 0 and "next: flowpose bench" in said.err
    int8 = next(each for each in found["graphs"] if each["precision"] == "int8")
    count = len(int8["layers"])
    numbers = (f"{int8['macs'] / 1e6:.1f}", f"{int8['coverage']['share']:.1%}", f"first 20 of {count} layers")
    shown = " ".join(said.out.split())
    for text in ("source.onnx", *numbers, "flow.blocks.0.mlp.up", "MACs M", "kB", "TensorRT 10.3"):
        assert text in shown
    assert "source.onnx has 54, as" in shown and "Cast of int8" in shown and "Fix: flowpose halve" in shown
    assert "flow.head" not in said.out and max(map(len, said.out.splitlines())) <= 80
    every = flowpose("inspect", NAME, "--all").out
    assert "flow.head" in every and "autoencoder.encoder.layers.0" in every and f"all {count} layers" in every


def test_graphs_for_tensorrt_alone_are_checked_in_place_of_the_general_ones(
    flowpose: Call, tmp_path: Path
) -> None:
    tiny, path = make_artifact(tmp_path / "tiny"), tmp_path / "own"
    manifest, own = tiny.manifest, "frame.int8.gpu.onnx"
    (frame,) = (each for each in manifest.graphs if each.precision == "int8")
    graphs = (*manifest.graphs, frame.model_copy(update={"backend": "tensorrt", "file": own}))
    fields = manifest.model_dump(exclude={"files", "self_sha256", "graphs"})
    with creating(path, **fields, graphs=graphs) as draft:
        for file in manifest.run_files():
            (draft / file).write_bytes(tiny.file(file).read_bytes())
        model = onnx.load(tiny.file(frame.file))
        model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.int8), "codes"))
        model.graph.node.append(
            helper.make_node("Cast", ["codes"], ["w"], name="widen", to=TensorProto.FLOAT)
        )
        onnx.save(model, draft / own)
    rows = flowpose("inspect", path, "--json").json["tensorrt"]
    assert [(each["precision"], each["rate"], each["file"]) for each in rows] == [
        ("fp32", "source", "source.onnx"), ("fp32", "frame", "frame.fp32.onnx"),
        ("int8", "source", "source.onnx"), ("int8", "frame", own),
    ]  # fmt: skip
    assert [any(each["refused"].values()) for each in rows] == [False, False, False, True]
    shown = " ".join(flowpose("inspect", path).out.split())
    assert f"{own} has 1, as widen: Cast of int8, got int8 to float" in shown
    assert "The rules hold in fp32." in shown
    shown = " ".join(flowpose("inspect", tiny.path).out.split())
    assert "hold in every graph that it is given" in shown and "halve" not in shown


def test_an_engine_shows_the_graphs_it_holds(flowpose: Call, tmp_path: Path) -> None:
    """These graphs have no layers, which is not an error either."""
    changes: dict[str, object] = {"kind": "engine", "backend": "onnxruntime", "precision": "fp32"}
    engine: Artifact = make_artifact(tmp_path / "engine", changes=changes)
    said = flowpose("inspect", engine.path, "--html", tmp_path / "engine.html")
    assert said.code == 0 and "frame.fp32.onnx: all 0 layers" in said.out
    assert "0.0 M multiply-accumulates" in Page((tmp_path / "engine.html").read_text("utf-8")).text


@pytest.mark.parametrize(("precision", "top"), [("int8", 127), ("fp8", 448)])
def test_a_quantized_student_shows_its_scales(
    flowpose: Call, tmp_path: Path, precision: str, top: int
) -> None:
    path = make_other(tmp_path / "quantized", "quantized", precision=precision)
    page = tmp_path / "scales.html"
    (layer,) = flowpose("inspect", path, "--json", "--html", page).json["scales"]
    scales = layer["weight_scales"]
    assert (layer["name"], layer["smoothed"], scales["n"]) == ("flow.up", True, 3)
    assert [scales["low"], scales["high"], *layer["input_scales"]] == pytest.approx(
        [0.127 / top, 1.27 / top, 12.7 / top]
    )
    assert sum(scales["bins"]) == 3
    assert "flow.up" in Page(page.read_text("utf-8")).text
    said = flowpose("inspect", path)
    assert "flow.up" in said.out and "next: flowpose export tiny" in said.err


def test_other_kinds_are_errors_that_say_what_makes_a_graph(flowpose: Call, tmp_path: Path) -> None:
    said = flowpose("inspect", make_other(tmp_path / "student", "student"), "--json")
    assert said.code == 1 and said.json["error"] == "ArtifactError" and said.json["got"] == "student"
    assert (
        said.json["expected"] == "graph, engine or quantized" and said.json["fix"] == "flowpose export tiny"
    )


def test_a_missing_package_is_named_with_the_extras_that_bring_it(
    flowpose: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = make_artifact(tmp_path / "graph", ("fp32",))
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = flowpose("inspect", artifact.path, "--json")
    assert said.json["error"] == "MissingDependency" and "package onnx" in said.json["what"]
    assert said.json["fix"] == "pip install flowpose[train,quantize]; in a checkout: make setup"
