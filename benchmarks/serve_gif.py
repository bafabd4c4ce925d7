"""The page of `flowpose serve` in headless Chromium: what its own counter says, and a recording of it.

    python benchmarks/serve_gif.py people-128 --seconds 60 --json benchmarks/results/serve-page.json
    python benchmarks/serve_gif.py people-128 --film docs/serve.webp

The first plays the sample motion in the page and keeps the page's own numbers: latency from a pose sent to its picture
shown, in the browser's clock, with the browser on the same machine (it draws by software there and shares the cores).
The second takes one screenshot after the other while joints are dragged and a motion plays; each waits until the newest
pose's picture is shown, so the film shows every frame however slow the machine is, at a pace of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from serve_load import manifest_of, served

from flowpose import image
from flowpose.report.video import open_writer
from flowpose.runtime.machine import machine

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FPS = 12.0
WIDE, HIGH = 1000, 700  # of the film, pixels of the page


@contextmanager
def opened(model: str, threads: int | None, width: int, height: int) -> Iterator[Any]:
    """A page of a server of its own, with the first picture shown."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium on this machine")
    with served(model, threads) as (port, _), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"http://127.0.0.1:{port}/", timeout=60_000)
        settle(page)
        yield page
        browser.close()


def settle(page: Any) -> None:
    """Waits until the newest pose's picture is on the screen."""
    end = time.monotonic() + 60
    while not page.evaluate("() => Boolean(window.flowpose && flowpose.numbers().shown && flowpose.idle())"):
        if time.monotonic() > end:
            raise SystemExit(f"the page does not settle: {page.inner_text('body')}")
        time.sleep(0.01)


def counted(page: Any, seconds: float) -> dict[str, Any]:
    """Plays the sample motion; the page's own numbers over its last 600 frames, and those of each tenth of the time."""
    page.evaluate("() => flowpose.play(true)")
    time.sleep(5)
    page.evaluate("() => flowpose.clear()")
    parts = []
    for _ in range(10):
        time.sleep(seconds / 10)
        parts.append(page.evaluate("() => flowpose.numbers()"))
    return {"page": parts[-1], "over_time": parts, "browser": page.evaluate("() => navigator.userAgent")}


def filmed(page: Any, path: Path) -> int:
    """Writes the film and returns how many frames it has."""
    with open_writer(path, FPS) as writer:

        def shoot() -> None:
            settle(page)
            writer.add(image.decode(page.screenshot(type="png")))

        for _ in range(6):
            shoot()
        for joint, (dx, dy) in (
            ("left_elbow", (70, -130)),
            ("right_elbow", (-60, -90)),
            ("left_knee", (50, -70)),
        ):
            drag(page, joint, dx, dy, shoot)
        page.click("[data-person=skirt]")
        for i in range(48):
            page.evaluate(f"() => flowpose.show({i / 15})")
            shoot()
        page.click("[data-person=plaid]")
        for i in range(12):
            page.evaluate(f"() => flowpose.show({i / 15})")
            shoot()
        writer.close()
    return 6 + 3 * 10 + 48 + 12


def drag(page: Any, joint: str, dx: float, dy: float, shoot: Any) -> None:
    box = page.locator(f"[data-joint={joint}] .dot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(1, 11):
        page.mouse.move(x + dx * i / 10, y + dy * i / 10)
        shoot()
    page.mouse.up()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, help="of the server's model")
    parser.add_argument("--film", type=Path, help=".webp or .gif")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.film is not None:
        with opened(asked.model, asked.threads, WIDE, HIGH) as page:
            count = filmed(page, asked.film)
        sys.stdout.write(f"{asked.film}: {count} frames, {asked.film.stat().st_size / 2**20:.2f} MB\n")
        return
    before = os.getloadavg()
    with opened(asked.model, asked.threads, 1280, 860) as page:
        found = counted(page, asked.seconds)
    sys.stdout.write(json.dumps(found["page"], indent=1) + "\n")
    if asked.json is not None:
        report = {
            "model": asked.model, "key": manifest_of(asked.model).key, "seconds": asked.seconds,
            "machine": asdict(machine()), "load_before": before, "load_after": os.getloadavg(), **found,
        }  # fmt: skip
        asked.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
