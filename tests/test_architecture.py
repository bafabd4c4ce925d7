"""The shape of the source: sizes, names, what imports what, and that every declarative file can be read.

The order of the layers is import-linter's matter (pyproject.toml, `make check`).
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowpose
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_calibration, load_recipe, load_target

PACKAGE = Path(flowpose.__file__).parent
ROOT = PACKAGE.parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))

LINES = 400  # of a file
BODY = 60  # lines of a function
VAGUE = {"utils", "util", "common", "core", "base", "helpers", "misc", "manager", "lib"}
ALLOWED = {"spec/base.py"}  # the base of the spec records, and nothing else

DEVICE = (
    "flowpose.runtime",
    "flowpose.compile",
    "flowpose.doctoring",
    "flowpose.targeting",
    "flowpose.bench",
    "flowpose.report",
    "flowpose.samples",
    "flowpose.demo",
    "flowpose.metrics",
    "flowpose.pose_files",
    "flowpose.live_command",
    "flowpose.infer_command",
    "flowpose.estimating",
    "flowpose.background",
    "flowpose.spec.reading",
)
HOST = ("torch", "onnx", "yaml", "modelopt", "accelerate", "diffusers", "safetensors")

IMPORTS = """
import importlib, json, sys
for name in sys.argv[1].split():
    sys.modules[name] = None
for name in sys.argv[2].split():
    importlib.import_module(name)
print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
"""


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_are_short() -> None:
    long = {named(path): n for path in MODULES if (n := len(path.read_text("utf-8").splitlines())) > LINES}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{named(path)}: {found.name}": length
        for path in MODULES
        for found in functions(path)
        if (length := (found.end_lineno or found.lineno) - found.lineno + 1) > BODY
    }
    assert not long


def test_names_say_what_things_do() -> None:
    parts = {named(path): {part.removesuffix(".py") for part in Path(named(path)).parts} for path in MODULES}
    assert not [name for name, found in parts.items() if found & VAGUE and name not in ALLOWED]


def test_every_module_says_what_it_is() -> None:
    assert not [named(path) for path in MODULES if not ast.get_docstring(tree(path))]


def test_no_broad_excepts() -> None:
    found = [
        f"{named(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert not found


def bound(module: ast.Module) -> set[str]:
    """Names that the top level of a module binds, those under TYPE_CHECKING too."""
    names: set[str] = set()
    for node in module.body:
        for part in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(part, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                names.add(part.name)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                names |= {(name.asname or name.name).split(".")[0] for name in part.names}
            elif isinstance(part, ast.Assign):
                names |= {
                    name.id
                    for target in part.targets
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name)
                }
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                names.add(part.target.id)
    return names


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_all_lists_existing_names_once(path: Path) -> None:
    module = tree(path)
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert len(names) == len(set(names))
            assert set(names) <= bound(module)


def clean(hidden: tuple[str, ...], modules: tuple[str, ...]) -> list[str]:
    """What a fresh interpreter has loaded after importing the modules; the hidden ones cannot be imported."""
    command = [sys.executable, "-c", IMPORTS, " ".join(hidden), " ".join(modules)]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_the_device_side_imports_where_no_host_package_is_installed() -> None:
    loaded = clean(HOST, DEVICE)
    assert set(DEVICE) <= set(loaded)


def test_the_device_side_loads_no_host_package_where_all_are_installed() -> None:
    assert not {name.split(".")[0] for name in clean((), DEVICE)} & set(HOST)


@pytest.mark.parametrize("name", shipped("recipes"))
def test_every_recipe_loads_and_bears_its_files_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_calibration(recipe.quantize.calibration).name == recipe.quantize.calibration


@pytest.mark.parametrize("name", shipped("targets"))
def test_every_target_loads_and_bears_its_files_name(name: str) -> None:
    assert load_target(name).name == name


@pytest.mark.parametrize("name", shipped("calib"))
def test_every_calibration_set_loads_and_bears_its_files_name(name: str) -> None:
    assert load_calibration(name).name == name


@pytest.mark.parametrize("kind", ["recipes", "targets", "calib"])
def test_a_folders_readme_is_its_catalogue(kind: str) -> None:
    listed = re.findall(r"\]\(([\w.-]+)\.yaml\)", (ROOT / kind / "README.md").read_text("utf-8"))
    assert set(listed) == {path.stem for path in (ROOT / kind).glob("*.yaml")}


def test_the_design_page_names_every_part() -> None:
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    parts = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    names = {path.name if path.suffix else f"{path.name}/" for path in parts}
    assert not {name for name in names if not re.search(rf"^ +{re.escape(name)} ", page, re.MULTILINE)}
