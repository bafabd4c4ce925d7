"""The page in a real Chromium: people move when joints are dragged, by mouse, by touch and by keys."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serve.running import Running, running

from flowpose import image, samples
from flowpose.metrics import psnr
from flowpose.pose import Pose
from flowpose.runtime import Model, load
from flowpose.serve.page import SITE
from flowpose.serve.settings import Place
from flowpose.spec.find import shipped

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
if "people-128" not in shipped("models"):
    pytest.skip("the model people-128 is not in this checkout", allow_module_level=True)

TOKEN = "a-token-for-the-page"
SOON = 30.0
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PIXELS = """() => {
  const canvas = document.getElementById("picture");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let text = ""; for (const byte of data) text += String.fromCharCode(byte);
  return [canvas.height, canvas.width, btoa(text)];
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input:not([type=file]), select, [role=button], [role=img]")]
  .filter((each) => !(each.innerText || each.getAttribute("aria-label") || each.labels?.[0]?.innerText))
  .map((each) => each.outerHTML)"""
Page = Any


@pytest.fixture(scope="module")
def people() -> Model:
    return load("people-128", backend="onnxruntime", threads=1, verify=False)


@pytest.fixture(scope="module")
def server(people: Model) -> Iterator[Running]:
    with running(people) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end nothing may have gone wrong in it, and nothing may have been kept out by its policy."""
    contexts, said = [], list[str]()

    def open_page(url: str, *, width: int = 1280, height: int = 860, phone: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=phone,
            is_mobile=phone,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    known = ("status of 4", "Canvas2D")  # what a test asked for in vain; advice on what only the tests do
    assert not [text for text in said if not any(part in text for part in known)]


def wait(page: Page, true: str) -> None:
    """Waits until JavaScript is true; Playwright's own waiting needs eval, which the page's policy forbids."""
    end = time.monotonic() + SOON
    while not page.evaluate(f"() => Boolean({true})"):
        assert time.monotonic() < end, (
            f"waited in vain for {true}: {page.evaluate('() => flowpose.numbers()')}"
        )
        time.sleep(0.02)


def settled(page: Page, after: int = 0) -> int:
    """Waits until the newest pose's picture is shown; returns how many were."""
    wait(page, f"window.flowpose && flowpose.numbers().shown > {after} && flowpose.idle()")
    return int(page.evaluate("() => flowpose.numbers().shown"))


def shown(page: Page) -> NDArray[np.uint8]:
    height, width, text = page.evaluate(PIXELS)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]


def drawn(page: Page, people: Model, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the model draws of the page's own skeleton, without the server."""
    rows = np.array(page.evaluate("() => flowpose.rows()"), np.float32).reshape(133, 3)
    return people.session(picture).infer(Pose.of(rows, "coco-wholebody-133", people.size))


def is_the_person(page: Page, people: Model, picture: NDArray[np.uint8]) -> None:
    """The screen's pixels are a picture of this person in this pose: nearly the model's, and not plain."""
    made = shown(page)
    assert psnr(made, drawn(page, people, picture)) > 32 and made.std() > 20


def centre(page: Page, joint: str) -> tuple[float, float]:
    box = page.locator(f"[data-joint={joint}] .dot").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> int:
    return int((np.abs(before.astype(int) - after).max(-1) > 24).sum())


def test_a_dragged_joint_moves_the_person(
    opened: Callable[..., Page], server: Running, people: Model
) -> None:
    page = opened(server.url)
    count = settled(page)
    before = shown(page)
    is_the_person(page, people, samples.source("sweater"))
    x, y = centre(page, "left_elbow")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 150, steps=8)
    page.mouse.up()
    settled(page, count)
    assert changed(before, shown(page)) > 150
    is_the_person(page, people, samples.source("sweater"))
    moved = centre(page, "left_elbow")
    assert abs(moved[0] - x - 60) < 2 and abs(moved[1] - y + 150) < 2
    page.click("#reset")
    settled(page, count + 1)
    assert changed(before, shown(page)) == 0, "the same pose gives the same picture"


def test_the_keyboard_moves_a_joint_and_what_hangs_on_it(
    opened: Callable[..., Page], server: Running
) -> None:
    page = opened(server.url)
    count = settled(page)
    before, joint = shown(page), page.locator("[data-joint=right_wrist]")
    label = joint.get_attribute("aria-label")
    joint.focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    settled(page, count)
    assert changed(before, shown(page)) > 60
    assert joint.get_attribute("aria-label") != label and re.fullmatch(r"right wrist, x \d+, y \d+", label)
    page.evaluate("() => flowpose.show(0)")  # the sample motion's first pose: it has hands
    rows = np.array(page.evaluate("() => flowpose.rows()")).reshape(133, 3)
    for name, moves in (("left_wrist", {9, *range(91, 112)}), ("body", set(range(133)))):
        page.locator(f"[data-joint={name}]").focus()
        page.keyboard.press("ArrowUp")
        moved = np.array(page.evaluate("() => flowpose.rows()")).reshape(133, 3)
        assert set(np.flatnonzero(np.abs(moved - rows).max(1) > 0.5)) == moves & set(
            np.flatnonzero(rows[:, 2] > 0)
        )
        rows = moved
    assert not page.evaluate(NAMELESS), "everything that can be used has a name"
    assert page.locator("[data-joint]").count() == 14


def test_on_a_phone_it_fits_and_a_finger_moves_a_joint(
    opened: Callable[..., Page], server: Running, people: Model
) -> None:
    page = opened(server.url, width=360, height=740, phone=True)
    count = settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    before, (x, y) = shown(page), centre(page, "right_elbow")
    touch = page.context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [(x, y)]), *(("touchMove", [(x - 4 * i, y - 12 * i)]) for i in range(1, 7)), ("touchEnd", []),
    ):  # fmt: skip
        given = [{"x": a, "y": b} for a, b in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": given})
    settled(page, count)
    assert changed(before, shown(page)) > 100
    is_the_person(page, people, samples.source("sweater"))
    assert page.evaluate("() => scrollY") == 0, "the page stays where it is while a joint is dragged"


def test_a_motion_plays_and_the_page_counts(opened: Callable[..., Page], server: Running) -> None:
    page = opened(server.url)
    settled(page)
    page.click("#play")
    wait(page, "flowpose.numbers().n > 12")
    assert page.get_attribute("#play", "aria-pressed") == "true"
    page.click("#play")
    found = page.evaluate("() => flowpose.numbers()")
    assert 0 < found["p50"] <= found["p95"] <= found["p99"] < 20_000 and 0 < found["server"] <= found["p95"]
    assert found["sent"] >= found["shown"] + found["replaced"] and found["errors"] == 0
    wait(page, "document.getElementById('numbers').innerText.includes('precision')")
    told = page.inner_text("#numbers")
    for word in (
        "frames/s",
        "p50",
        "p95",
        "p99",
        "server",
        "dropped",
        "int8",
        "onnxruntime",
        "88 \N{MULTIPLICATION SIGN} 128",
    ):
        assert word in told


def test_another_person_and_a_photo_of_ones_own(
    opened: Callable[..., Page], server: Running, people: Model, tmp_path: Path
) -> None:
    page = opened(server.url)
    count = settled(page)
    page.click("[data-person=plaid]")
    count = settled(page, count)
    is_the_person(page, people, samples.source("plaid"))
    photo = image.write(tmp_path / "me.png", samples.source("skirt"))
    page.set_input_files("#pick-photo", photo)
    settled(page, count)
    wait(page, "document.querySelector('.add').getAttribute('aria-pressed') === 'true'")
    is_the_person(page, people, samples.source("skirt"))
    assert "me.png, 176 \N{MULTIPLICATION SIGN} 256 pixels" in page.inner_text("#about")


DROP = """([name, type, text]) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) dispatchEvent(new DragEvent(kind, { dataTransfer: data }));
}"""


def drop(page: Page, name: str, kind: str, data: bytes) -> None:
    page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])


def test_a_dropped_pose_file_plays_and_a_dropped_photo_is_shown(
    opened: Callable[..., Page], server: Running, people: Model
) -> None:
    page = opened(server.url)
    count = settled(page)
    frames = [{"people": [{"pose_keypoints_2d": body_25(pose)}]} for pose in samples.motion().poses[:6]]
    drop(
        page,
        "dance.json",
        "application/json",
        json.dumps({"frames": frames, "width": 176, "height": 256}).encode(),
    )
    wait(page, "document.getElementById('motion').innerText.includes('dance.json: 6 poses')")
    assert page.is_visible("#fit")
    wait(page, f"flowpose.numbers().shown > {count + 3}")
    drop(page, "you.webp", "image/webp", image.encode(samples.source("dungarees"), ".webp"))
    wait(page, "document.getElementById('about').innerText.startsWith('you.webp')")
    page.click("#reset")
    settled(page, count + 4)
    assert psnr(shown(page), drawn(page, people, samples.source("dungarees"))) > 25


def body_25(pose: Pose) -> list[float]:
    return [round(float(value), 2) for value in pose.to("body-25").array().ravel()]


WRONG = (
    (
        "me.gif",
        "image/gif",
        b"GIF89a" + bytes(60),
        ("not a picture that can be read", "PNG, JPEG, WebP or BMP"),
    ),
    ("me.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(60), ("damaged picture",)),
    ("dance.json", "application/json", b"{", ("dance.json", "not JSON")),
    ("dance.bvh", "", b"HIERARCHY", ("dance.bvh: unknown kind of pose file", "OpenPose")),
)


def test_what_is_wrong_with_a_file_is_said_and_the_person_stays(
    opened: Callable[..., Page], server: Running
) -> None:
    page = opened(server.url)
    settled(page)
    before = shown(page)
    for name, kind, data, texts in WRONG:
        drop(page, name, kind, data)
        wait(page, "!document.getElementById('problem').hidden")
        told = page.inner_text("#problem")
        assert all(text in told for text in texts) and "Traceback" not in told and "expected" in told
        assert np.array_equal(shown(page), before)
        page.click("#p-close")
        assert page.is_hidden("#problem")


def test_the_token_comes_with_the_address_or_is_asked_for(opened: Callable[..., Page], people: Model) -> None:
    with running(people, Place(port=0, token=TOKEN)) as server:
        page = opened(f"{server.url}/#token={TOKEN}")
        settled(page)
        assert TOKEN not in page.url and TOKEN not in page.content()
        asked = opened(server.url)
        wait(asked, "!document.getElementById('ask').hidden")
        asked.fill("#token", TOKEN)
        asked.click("#ask button")
        settled(asked)


def test_a_server_that_comes_again_is_found_again(opened: Callable[..., Page], people: Model) -> None:
    with running(people) as server:
        page = opened(server.url)
        count = settled(page)
        for client in list(server.house._clients):
            server.house.leave(client)  # its session is gone, as after a restart
        page.evaluate("() => flowpose.cut()")
        wait(page, "document.getElementById('status').dataset.state === 'gone'")
        settled(page, count)
        assert page.get_attribute("#status", "data-state") == "live"


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


PAIRS = (
    ("text", "card"), ("text", "back"), ("muted", "card"), ("muted", "back"), ("muted", "field"),
    ("on-accent", "accent"), ("bad", "card"), ("text", "bad-back"), ("muted", "bad-back"), ("accent", "card"),
)  # fmt: skip


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_texts_can_be_read_in_both_themes(theme: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3, level AA)."""
    block = (SITE / "style.css").read_text("utf-8").split(theme)[1].split("}")[0]
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for front, back in PAIRS:
        low, high = sorted((luminance(colour[front]), luminance(colour[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    texts = {path.name: path.read_text("utf-8") for path in SITE.iterdir()}
    for name, text in texts.items():
        found = [each for each in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text) if "www.w3.org" not in each]
        assert not found, name
    assert "style=" not in texts["index.html"] and not re.search(r" on\w+=", texts["index.html"])
