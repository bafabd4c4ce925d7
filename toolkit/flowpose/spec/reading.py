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

LARGEST = 1 << 17  # bytes of a file, which take a second or two to read; the largest shipped one has 4,018
MOST_VALUES = 100_000  # of a file, aliases counted each time; the largest shipped one has 300

# What PyYAML raises on a number of 5,000 digits, on !!bool maybe, on a day that is none, on !!int without a digit.
_NO_VALUE = (ValueError, TypeError, OverflowError, KeyError, AttributeError, IndexError)

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
        if path.stat().st_size > LARGEST:
            raise SpecError(path, [f"too large, got {path.stat().st_size} bytes, expected {LARGEST} at most"])
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
    except _NO_VALUE as error:
        raise SpecError(where, [f"not a value ({error!r})"]) from error
    except RecursionError as error:  # hundreds of lists in one another
        raise SpecError(where, ["nested too deeply"]) from error


@functools.cache
def _loader() -> type[yaml.SafeLoader]:
    """Returns a safe loader with the numbers and truth values of YAML 1.2; it refuses a key given twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

        def get_single_node(self) -> yaml.Node | None:
            node = super().get_single_node()
            if node is not None:
                _weigh(node, {})
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
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


def _weigh(node: yaml.Node, known: dict[int, int]) -> int:
    """Returns how many values a node stands for, those of aliases each time; ten lines can make a thousand million.

    Raises:
        yaml.composer.ComposerError: more than MOST_VALUES, or a node that holds itself.
    """
    import yaml

    if id(node) in known:
        count = known[id(node)]
    else:
        known[id(node)] = MOST_VALUES + 1  # for as long as it is open: whoever finds it so is inside it
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        count = 1 + sum(_weigh(each, known) for part in parts for each in (part if pairs else (part,)))
        known[id(node)] = count
    if count > MOST_VALUES:
        what = f"aliases make more than {MOST_VALUES} values, or one holds itself"
        raise yaml.composer.ComposerError(None, None, what, node.start_mark)
    return count


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
