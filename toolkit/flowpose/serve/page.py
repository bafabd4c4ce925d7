"""The page's files: a literal table, read once. No path of a client is ever opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flowpose import samples

__all__ = ["PAGE", "PageFile", "page_files"]

SITE = Path(__file__).parent / "site"
PAGE: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
       for name in ("page", "wire", "skeleton", "player", "numbers")},
}  # fmt: skip
"""Path -> file and media type."""


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its bytes and media type."""

    data: bytes
    media_type: str


@lru_cache(1)
def page_files() -> Mapping[str, PageFile]:
    """Returns path -> file: the page's own, and the shipped people's pictures."""
    own = {path: PageFile((SITE / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}
    people = {
        f"/people/{name}.webp": PageFile((samples.FOLDER / f"{name}-source.webp").read_bytes(), "image/webp")
        for name in samples.PEOPLE
    }
    return own | people
