"""A hook of MkDocs: the build ends at public names of the Python reference without a docstring, and names them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import FunctionType, ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

PAGE = Path(__file__).resolve().parents[1] / "reference" / "python.md"
WORK = (FunctionType, property, classmethod, staticmethod)
SHOWN = re.compile(r"^::: ([\w.]+)\n(?!    options:\n      members: false)", re.MULTILINE)
ALONE = re.compile(r"^::: ([\w.]+)\n    options:\n      members: false", re.MULTILINE)


def on_pre_build(config: MkDocsConfig) -> None:
    """Stops at names without a docstring."""
    page = PAGE.read_text("utf-8")
    bare = undocumented(SHOWN.findall(page), ALONE.findall(page))
    if bare:
        raise PluginError("public names without a docstring: " + ", ".join(bare))


def undocumented(names: Iterable[str], alone: Iterable[str] = ()) -> list[str]:
    """Those of the names, and of the public methods of classes among the first, that have no docstring of their own."""
    shown = [
        *((name, resolve_name(name)) for name in alone),
        *(part for name in names for part in parts(name)),
    ]
    return [name for name, thing in shown if not has_docstring(thing)]


def parts(name: str) -> Iterator[tuple[str, object]]:
    """A name with its object; of a module its public functions and classes, of a class its public methods, too."""
    thing = resolve_name(name)
    yield name, thing
    if isinstance(thing, ModuleType):
        for key, member in vars(thing).items():
            if not key.startswith("_") and getattr(member, "__module__", None) == name:
                yield from parts(f"{name}.{key}")
    elif inspect.isclass(thing):
        for key, member in vars(thing).items():
            if not key.startswith("_") and isinstance(member, WORK):
                yield f"{name}.{key}", member


def has_docstring(thing: object) -> bool:
    """Whether somebody wrote one: a dataclass makes a text of its fields by itself."""
    text = getattr(thing, "__doc__", None)
    return bool(text) and not (inspect.isclass(thing) and str(text).startswith(f"{thing.__name__}("))
