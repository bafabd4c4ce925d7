"""Reading recipes, targets and calibration sets from YAML; yaml is imported only when a file is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import SpecError
from .base import Spec
from .calibration import Calibration
from .find import Kind, find
from .recipe import Recipe
from .target import Target

if TYPE_CHECKING:
    import yaml

S = TypeVar("S", bound=Spec)

# YAML 1.1 reads 1e-4 as a text and `no` as false; these are YAML 1.2's numbers and truth values.
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Returns a recipe.

    Args:
        name_or_path: a file, or the name of a shipped recipe.
        overrides: changes such as `train.optim.lr=1e-4`: a path of keys, `=`, and a value as YAML writes it.

    Raises:
        SpecError: the file or an override cannot be used; all problems are listed.
    """
    return _load(Recipe, "recipes", "recipe", name_or_path, overrides)


def load_target(name_or_path: str | Path) -> Target:
    """Returns a target, from a file or by a shipped name; SpecError lists what is wrong with it."""
    return _load(Target, "targets", "target", name_or_path)


def load_calibration(name_or_path: str | Path) -> Calibration:
    """Returns a calibration set, from a file or by a shipped name; SpecError lists what is wrong with it."""
    return _load(Calibration, "calib", "calibration", name_or_path)


def _load(record: type[S], kind: Kind, where: str, name: str | Path, overrides: Sequence[str] = ()) -> S:
    path = find(kind, name)
    data = _with_overrides(_read(path), overrides, path)
    return record.parse(data, where, source=path)


def _read(path: Path) -> object:
    """Returns what a YAML file holds."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(path, [f"cannot be read: {error}"]) from error
    return _yaml(text, path)


def _yaml(text: str, where: object) -> object:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # a SafeLoader: it builds plain data only
    except yaml.YAMLError as error:
        raise SpecError(where, ["not YAML: " + " ".join(str(error).split())]) from error


@functools.cache
def _loader() -> type[yaml.SafeLoader]:
    """Returns a safe loader with the numbers and truth values of YAML 1.2; it refuses a key given twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for key, _ in node.value:
                if keys.count(key.value) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
            return super().construct_mapping(node, deep)

    for tag, pattern, first in (
        ("null", _NULL, ["~", "n", "N", ""]),
        ("bool", _BOOL, list("tTfF")),
        ("int", _INT, list("-+0123456789")),
        ("float", _FLOAT, list("-+.0123456789")),
        ("merge", re.compile("<<"), ["<"]),
    ):
        whole = re.compile(f"^(?:{pattern.pattern})$")
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", whole, first)
    return Loader


def _with_overrides(data: object, overrides: Sequence[str], source: Path) -> object:
    """Returns the data with the overrides set in it, in order; collects every override that cannot be."""
    problems = []
    for text in overrides:
        keys, equals, value = text.partition("=")
        if not equals or not all(keys.strip().split(".")):
            problems.append(f"override {text!r}: wrong form, expected such as 'train.optim.lr=1e-4'")
            continue
        try:
            _set(data, keys.strip().split("."), _yaml(value, f"override {text!r}"))
        except SpecError as error:
            problems.append(f"override {text!r}: {'; '.join(error.problems)}")
    if problems:
        raise SpecError(source, problems)
    return data


def _set(data: object, keys: Sequence[str], value: object) -> None:
    """Sets a value at a path of keys, making the tables on the way that the file leaves to their defaults."""
    here = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, dict):
            here[key] = value if last else {} if here.get(key) is None else here[key]
            here = here[key]
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here[int(key)] = value if last else here[int(key)]
            here = here[int(key)]
        else:
            parent = ".".join(keys[:depth]) or "the file"
            raise SpecError(parent, [f"{parent} holds no {key!r}"])
