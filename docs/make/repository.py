"""A hook of MkDocs: the site carries what its pages link outside docs/, and their links lead to it.

A page says `../recipes/tiny.yaml`, as a reader of the repository follows it. In the site that file stands at
`repository/recipes/tiny.yaml`. Linked Markdown becomes a page, a linked folder its README or else a
list of its files. A link to what is not there stays as it is, and the strict build stops at it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS, REPOSITORY, LIST = "docs/", "repository/", "files.md"
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "targets/README.md", "calib/README.md",
          "benchmarks/README.md")  # fmt: skip
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages link, and what those pages link."""
    texts = {DOCS + file.src_uri: file.content_string for file in files.documentation_pages()}
    waiting = [*ALWAYS, *linked(texts)]
    while waiting:
        path = waiting.pop()
        uri = site_uri(path)
        if path.startswith(DOCS) or uri in files.src_uris:
            continue
        if path.endswith("/" + LIST):
            file = File.generated(config, uri, content=listing(path), inclusion=InclusionLevel.NOT_IN_NAV)
        else:
            file = File.generated(config, uri, abs_src_path=str(ROOT / path))
        files.append(file)
        if path.endswith(".md"):
            waiting += linked({path: file.content_string})
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with its links as the site has them."""
    here = page.file.src_uri.removeprefix(REPOSITORY)
    path = here if here != page.file.src_uri else DOCS + here

    def moved(found: re.Match[str]) -> str:
        place, hash_, anchor = found[2].partition("#")
        target = place and repository_path(place, path)
        if not target:
            return found[0]
        link = posixpath.relpath(site_uri(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"{found[1]}{link}{hash_}{anchor}{found[3]}"

    return LINK.sub(moved, markdown)


def linked(texts: dict[str, str]) -> list[str]:
    """Paths below the repository that the texts link and that are there."""
    places = [
        (found[2].partition("#")[0], path) for path, text in texts.items() for found in LINK.finditer(text)
    ]
    return [found for place, path in places if place and (found := repository_path(place, path))]


def repository_path(link: str, page: str) -> str | None:
    """The linked file as a path below the repository; a folder's README or list; None where nothing is there."""
    if ":" in link or link.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if path.startswith("..") or not (ROOT / path).exists():
        return None
    if (ROOT / path).is_dir():
        return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else f"{path}/{LIST}"
    return path


def site_uri(path: str) -> str:
    """Where the site has a file of the repository."""
    return path.removeprefix(DOCS) if path.startswith(DOCS) else REPOSITORY + path


def listing(path: str) -> str:
    """A page that links every file of a folder."""
    folder = (ROOT / path).parent
    names = sorted(each.name for each in folder.iterdir() if each.is_file())
    return "\n".join([f"# {posixpath.dirname(path)}", "", *(f"* [{name}]({name})" for name in names), ""])
