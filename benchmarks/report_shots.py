"""Screenshots of a page for docs/: its head at a desk's width, and on a phone in the dark.

    flowpose report people-128 --measured benchmarks/results/people-128-report.json --html out/report.html
    python benchmarks/report_shots.py out/report.html docs/report.webp docs/report-phone.webp

Needs Debian's chromium and the package playwright. A page that logs an error or sticks out sideways is an error.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from flowpose.errors import FlowposeError, MissingDependency

# Without the last four Chromium calls its maker at every start.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
LARGEST = 200_000  # bytes of a file in docs/
QUALITY = (90, 80, 70, 60, 50)  # WebP's; the best one that is small enough


@dataclass(frozen=True)
class Shot:
    """What a picture shows: width and height of the window in CSS pixels, pixels for each, and the scheme."""

    width: int
    height: int
    scale: float
    scheme: str


SHOTS = (Shot(1240, 1120, 1.0, "light"), Shot(360, 1240, 1.5, "dark"))


def shoot(browser: Any, page: Path, shot: Shot) -> bytes:
    """The PNG of the top of a page."""
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height}, device_scale_factor=shot.scale,
        color_scheme=shot.scheme,
    )  # fmt: skip
    shown, said = context.new_page(), []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.goto(page.absolute().as_uri())
    wide = shown.evaluate("document.documentElement.scrollWidth")
    if said or wide > shot.width:
        got = "; ".join(said) or f"{wide} pixels wide"
        raise FlowposeError(
            page, "cannot be shown as it is", got=got, expected=f"no words, {shot.width} pixels"
        )
    taken: bytes = shown.screenshot()
    context.close()
    return taken


def as_webp(png: bytes) -> bytes:
    """The same picture as a WebP of at most LARGEST bytes."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    for quality in QUALITY:
        _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if data.size <= LARGEST:
            return bytes(data.tobytes())
    raise FlowposeError(
        "screenshot", "is too large", got=f"{data.size} bytes", expected=f"{LARGEST} or fewer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("page", type=Path)
    parser.add_argument("files", type=Path, nargs=len(SHOTS), metavar="FILE.webp")
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        fix = "pip install playwright, and apt-get install chromium"
        raise MissingDependency("report_shots", "needs the package playwright", fix=fix) from error
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for shot, file in zip(SHOTS, options.files, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(as_webp(shoot(browser, options.page, shot)))
        browser.close()


if __name__ == "__main__":
    main()
