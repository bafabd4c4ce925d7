"""Blocks of code in the repository's pages, and why some of them are not run.

A comment `<!-- not run: WHY -->` speaks for the next block, `<!-- not run on this page: WHY -->` for all that follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

import flowpose

ROOT = Path(flowpose.__file__).parents[2]
FOLDERS = ("", "docs", "docs/guides", "docs/reference", "recipes", "targets", "calib", "benchmarks")
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).glob("*.md")
)
LANGUAGES = {"python", "bash", "yaml", "json", "text", "output"}
STARTS = re.compile(
    r"^(?:\.venv/bin/)?(?:flowpose|make|python3?|pip3?|git|docker|curl|torchrun|accelerate) ", re.MULTILINE
)
MARK = re.compile(r"<!-- not run( on this page)?: (.+?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: path below the repository.
        line: of the page, from 1.
        kind: one of LANGUAGES; an indented block is bash where a line of it begins with a known program, else text.
        reason: why it is not run, if it is not.
    """

    page: str
    line: int
    kind: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """The blocks of a page, in order."""
    return blocks_of((ROOT / page).read_text("utf-8"), page)


def blocks_of(text: str, page: str) -> tuple[Block, ...]:
    """The blocks of a page's text."""
    found: list[Block] = []
    once = always = None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            for mark in MARK.finditer(token.content):
                reason = " ".join(mark[2].split())
                once, always = (once, reason) if mark[1] else (reason, always)
        elif token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            kind = token.info.strip() if token.type == "fence" else indented(token.content)
            found.append(Block(page, line, kind, token.content, once or always))
            once = None
    return tuple(found)


def indented(text: str) -> str:
    """What an indented block is."""
    return "bash" if STARTS.search(text) else "text"
