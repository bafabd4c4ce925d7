"""Does what flowpose calls exist in NVIDIA's bindings, under these names and with these parameters?

tensorrt_api.json holds what the wheels of TensorRT 10.3 (JetPack 6.2) and 11.4 and of cuda-bindings 12.9 and 13.5 have
(record_tensorrt_api.py). The code is read, not run, and so is the fake that the other tests run.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import cuda_runtime, installed, tensorrt

import flowpose

PACKAGE = Path(flowpose.__file__).parent
RECORD = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
TENSORRT, CUDA = sorted(RECORD["tensorrt"]), sorted(RECORD["cuda"])
FILES = sorted([*PACKAGE.glob("runtime/tensorrt*.py"), *PACKAGE.glob("compile/tensorrt_*.py")])

HOLDERS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "config.get_timing_cache()": "ITimingCache",
    "engine": "ICudaEngine",
    "error": "ParserError",
    "inspector": "EngineInspector",
    "library": "Runtime",
    "parser": "OnnxParser",
    "self._context": "IExecutionContext",
    "self._engine": "ICudaEngine",
}
"""What holds an object of TensorRT in flowpose's code -> its class."""

OTHERS = {"error.strerror"}  # an OSError is called error as well
GUARDED: dict[str, str] = {
    "STRONGLY_TYPED": "both releases have it, under other numbers; tensorrt_build._strongly_typed asks for it by name"
}
"""Names that a release may lack, and where the code sees to it."""


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8")))


def chains(path: Path, root: str) -> set[tuple[str, ...]]:
    """Attributes after a module's name: trt.ILogger.Severity.ERROR -> (ILogger, Severity, ERROR)."""
    texts = {ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Attribute)}
    return {tuple(text.split(".")[1:]) for text in texts if text.startswith(f"{root}.") and "(" not in text}


def held(path: Path) -> set[tuple[str, str]]:
    """Class and name of everything that is asked of TensorRT's objects."""
    found = [(ast.unparse(node.value), node.attr) for node in nodes(path) if isinstance(node, ast.Attribute)]
    return {(HOLDERS[of], name) for of, name in found if of in HOLDERS and f"{of}.{name}" not in OTHERS}


def calls(path: Path) -> Iterator[tuple[str, str, int, set[str]]]:
    """Class, method, number of positional arguments and keywords of every call of TensorRT's objects."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, name = ast.unparse(node.func.value), node.func.attr
            kind = HOLDERS.get(of, "")
            if of in ("trt", "tensorrt"):
                kind, name = name, "__init__"
            if kind:
                yield kind, name, len(node.args), {str(each.arg) for each in node.keywords}


def in_record(found: Any, chain: tuple[str, ...]) -> bool:
    for name in chain:
        if not isinstance(found, dict) or name not in found:
            return name in ("__init__",)
        found = found[name]
    return True


@pytest.mark.parametrize("release", TENSORRT)
def test_every_name_of_tensorrt_exists(release: str) -> None:
    used = {chain for path in FILES for root in ("trt", "tensorrt") for chain in chains(path, root)}
    used |= {(kind, name) for path in FILES for kind, name in held(path)}
    assert {chain[0] for chain in used} >= set(HOLDERS.values()) and len(used) > 40
    assert not {chain for chain in used if not in_record(RECORD["tensorrt"][release], chain)}


@pytest.mark.parametrize("release", TENSORRT)
def test_every_call_fits_a_signature(release: str) -> None:
    checked = [call for path in FILES for call in calls(path)]
    assert len(checked) > 25
    for kind, name, positional, keywords in checked:
        signatures = RECORD["tensorrt"][release][kind][name]
        assert any(positional < len(s) and keywords <= set(s[positional + 1 :]) for s in signatures), (
            kind,
            name,
        )


@pytest.mark.parametrize("release", TENSORRT)
def test_guarded_names_are_guarded(release: str) -> None:
    """So far both releases have them."""
    texts = "".join(path.read_text("utf-8") for path in FILES)
    assert all(f'"{name}"' in texts for name in GUARDED)
    assert "STRONGLY_TYPED" in RECORD["tensorrt"][release]["NetworkDefinitionCreationFlag"]


def test_the_flags_number_differs_between_releases() -> None:
    numbers = [RECORD["tensorrt"][r]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"] for r in TENSORRT]
    assert numbers == [1, 0]


@pytest.mark.parametrize("release", TENSORRT)
def test_overridden_methods_have_the_parameters_of_the_bindings(release: str) -> None:
    with installed():
        from flowpose.compile.tensorrt_build import BuildLog
        from flowpose.compile.tensorrt_progress import Monitor
        from flowpose.runtime.tensorrt_library import Log
    for kind, base in ((Log, "ILogger"), (BuildLog, "ILogger"), (Monitor, "IProgressMonitor")):
        methods = {
            n: s
            for n, s in RECORD["tensorrt"][release][base].items()
            if isinstance(s, list) and n != "__init__"
        }
        assert methods
        for name, (parameters,) in methods.items():
            assert list(inspect.signature(getattr(kind, name)).parameters) == parameters


OWN = {"layer", "compute", "array", "timed"}  # what the fake's classes have beside the bindings' methods


@pytest.mark.parametrize("release", TENSORRT)
def test_the_fake_has_the_signatures_of_the_bindings(release: str) -> None:
    checked = 0
    for kind, members in RECORD["tensorrt"][release].items():
        fake = getattr(tensorrt, kind, None)
        if kind == "__version__" or fake is None or issubclass(fake, enum.Enum):
            continue
        for name, method in vars(fake).items():
            if not inspect.isfunction(method) or (name.startswith("_") and members.get(name) is None):
                continue
            if name not in OWN:
                parameters = list(inspect.signature(method).parameters)
                assert any(parameters == s[: len(parameters)] for s in members[name]), (kind, name)
                checked += 1
    assert checked > 30


def test_the_fakes_numbers_are_those_of_10_3() -> None:
    record = RECORD["tensorrt"]["10.3.0"]
    kinds = [
        kind
        for kind in vars(tensorrt).values()
        if inspect.isclass(kind) and issubclass(kind, tensorrt.Numbered)
    ]
    for kind in kinds:
        for name, member in kind.__members__.items():
            assert record[kind.__name__][name] == int(member), (kind, name)
    assert len(kinds) == 9


@pytest.mark.parametrize("release", CUDA)
def test_every_name_of_cuda_exists_with_its_parameters(release: str) -> None:
    path, record = PACKAGE / "runtime" / "cuda.py", RECORD["cuda"][release]
    used = chains(path, "runtime")
    assert len(used) > 8
    assert not {chain for chain in used if chain[0] not in record}
    assert {chain[1] for chain in used if len(chain) > 1} <= {
        n for each in record.values() for n in each_name(each)
    }
    called = [
        node for node in nodes(path) if isinstance(node, ast.Call) and ast.unparse(node.func) == "_call"
    ]
    assert len(called) > 15
    for node in called:
        name = ast.literal_eval(node.args[0])
        assert len(node.args) - 1 == len(record[name]), name
    with installed():
        from flowpose.runtime.cuda import FIXES
    assert set(FIXES) <= set(record["cudaError_t"])


def each_name(record: Any) -> set[str]:
    return set(record) if isinstance(record, dict) else set()


@pytest.mark.parametrize("release", CUDA)
def test_a_gpus_facts_are_fields_of_the_bindings(release: str) -> None:
    fields = {chain[0] for chain in chains(PACKAGE / "runtime" / "cuda.py", "found")}
    assert fields > {"major", "minor", "multiProcessorCount", "integrated"}
    assert fields <= set(RECORD["cuda"][release]["cudaDeviceProp"])


@pytest.mark.parametrize("release", CUDA)
def test_the_fake_cuda_has_the_signatures_of_the_bindings(release: str) -> None:
    record = RECORD["cuda"][release]
    for name, thing in record.items():
        fake = getattr(cuda_runtime, name, None)
        if name == "cudaDeviceProp":
            continue
        if isinstance(thing, list):
            assert list(inspect.signature(fake).parameters) == thing, name
        elif isinstance(thing, int):
            assert fake == thing
        else:
            assert all(thing[member.name] == member for member in fake), name
