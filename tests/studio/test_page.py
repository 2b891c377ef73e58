"""The page in a real browser, served by the command itself: what a person does, and who is asked on the way.

Every request that the browser makes is kept, and one that leaves this machine fails the test it was made in.
"""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from bothways.numerics.draws import Draws
from bothways.runs import RunFolder, from_png, to_png
from picture_bomb import bomb

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
LONG = 240_000  # milliseconds that anything may take on a busy machine; nothing is asserted on time

pytest.importorskip("gradio", reason="gradio is not here")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not here")
if CHROMIUM is None:
    pytest.skip("chromium is not here", allow_module_level=True)


@dataclass
class Site:
    """The served page, a browser on it, and what was asked of anyone else. way_in: the address with its token."""

    address: str
    way_in: str
    runs: Path
    browser: Any
    page: Any = None
    outside: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def open(self, **how: Any) -> Any:
        page = self.browser.new_context(**how).new_page()
        page.set_default_timeout(LONG)
        page.on("request", lambda request: self._asked(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(self.way_in)
        page.wait_for_url(self.address)
        page.get_by_role("button", name="Draw").wait_for()
        return page

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:", self.address)):
            self.outside.append(url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    runs = tmp_path_factory.mktemp("studio") / "runs"
    command = [sys.executable, "-m", "bothways.cli", "studio", "--runs", str(runs), "--port", "0", "--no-open"]
    command += ["--allow", TOY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served, sync_api.sync_playwright() as play:
        try:
            assert served.stdout is not None
            address = re.search(r"(http://127\.0\.0\.1:\d+/)\?token=[\w-]+", served.stdout.readline())
            assert address, "the command did not say where the page is"
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            found = Site(address[1], address[0], runs, browser)
            found.page = found.open(viewport={"width": 1200, "height": 900})
            yield found
            browser.close()
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(LONG / 1000)


@pytest.fixture(autouse=True)
def _nobody_else_is_asked(site: Site) -> Iterator[None]:
    yield
    assert site.outside == []
    assert site.faults == []


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def state(page: Any, kind: str, *wanted: str) -> Any:
    """The status line when it is in one of the wanted states."""
    line = page.locator(", ".join(f"#{kind}-status [data-state={one}]" for one in wanted))
    line.wait_for()
    return line


def choose_classes(page: Any, *parts: str) -> None:
    box = page.get_by_label("Classes").locator("visible=true")
    for part in parts:
        box.fill(part)
        page.get_by_role("option").locator("visible=true").first.click()
    box.press("Escape")


def photo(path: Path, seed: int, size: tuple[int, int] = (32, 32)) -> Path:
    path.write_bytes(to_png(Draws([seed]).uniform((3, *size))[0]))
    return path


def test_two_classes_are_drawn_before_ones_eyes(site: Site) -> None:
    page = site.page
    choose_classes(page, "fro", "shi")
    page.get_by_label("Count").locator("visible=true").fill("1")
    page.get_by_label("Steps", exact=False).locator("visible=true").fill("80")
    page.get_by_role("button", name="Draw").click()
    seen = set()
    first = page.locator("#generate-pictures img").first
    first.wait_for()
    while not page.locator("#generate-status [data-state=complete]").count():
        seen.add(first.get_attribute("src"))
        assert not page.locator("#generate-status [role=alert]").count()
        page.wait_for_timeout(200)
    assert len(seen) > 2
    assert page.locator("#generate-pictures figcaption").all_inner_texts() == ["frog, seed 0", "ship, seed 1"]
    page.locator("#generate-below table").first.wait_for()
    assert "cifar10-attention" in page.inner_text("#generate-below")
    assert [r["class"] for r in RunFolder.open(site.runs / "generate-001").pictures] == ["frog", "ship"]


def test_again_has_new_seeds(site: Site) -> None:
    page = site.page
    page.get_by_role("button", name="Again with new seeds").locator("visible=true").click()
    page.locator("#generate-status [data-job=generate-002][data-state=complete]").wait_for()
    captions = page.locator("#generate-pictures figcaption").all_inner_texts()
    assert captions == ["frog, seed 1000000", "ship, seed 1000001"]
    one, two = (RunFolder.open(site.runs / f"generate-00{n}") for n in (1, 2))
    pictures = [[run.read_picture(record) for record in run.pictures] for run in (one, two)]
    assert all((a - b).abs().max() > 0 for a, b in zip(*pictures, strict=True))


def test_a_run_is_found_after_reloading_and_stopping_keeps_it(site: Site) -> None:
    page = site.page
    page.get_by_label("Steps", exact=False).locator("visible=true").fill("5000")
    page.get_by_role("button", name="Draw").click()
    page.locator("#generate-status [data-job=generate-003][data-state=running]").wait_for()
    page.goto("about:blank")
    before = len(RunFolder.open(site.runs / "generate-003").frames)
    page.goto(site.address)
    page.locator("#generate-status [data-job=generate-003][data-state=running]").wait_for()
    page.locator("#generate-pictures img").nth(1).wait_for()
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    state(page, "generate", "stopped")
    assert page.locator("#generate-pictures img").count() == 2
    run = RunFolder.open(site.runs / "generate-003")
    assert run.status["state"] == "stopped"
    assert all(record["unfinished"] and record["step"] > before for record in run.pictures)


def test_a_mistake_is_one_sentence(site: Site) -> None:
    page = site.page
    page.get_by_role("button", name="More settings").locator("visible=true").click()
    page.get_by_label("Other settings").locator("visible=true").fill("rmss=1")
    page.get_by_role("button", name="Draw").click()
    alert = page.locator("#generate-status [role=alert]")
    alert.wait_for()
    assert "no setting 'rmss'" in alert.inner_text()
    page.get_by_label("Other settings").locator("visible=true").fill("")


def test_another_model_brings_its_own_classes(site: Site) -> None:
    page = site.page
    model = page.get_by_label("Model", exact=True).locator("visible=true")
    model.fill(TOY)
    model.press("Enter")
    classes = page.get_by_label("Classes").locator("visible=true")
    classes.fill("anch")
    page.get_by_role("option", name="anchor").locator("visible=true").wait_for()
    classes.fill("")
    classes.press("Escape")
    model.fill("bundled:cifar11")
    model.press("Enter")
    page.get_by_role("alert").locator("visible=true", has_text="no bundled model 'cifar11'").wait_for()


def test_what_is_no_picture_gets_a_sentence(site: Site, tmp_path: Path) -> None:
    page = site.page
    tab(page, "Photo")
    files = {
        "corrupt.png": to_png(torch.rand(3, 40, 40))[:300],
        "huge.png": bomb(40_000, 40_000),
        "words.png": b"these are words",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        page.locator("#photo-file input[type=file]").set_input_files(tmp_path / name)
        alert = page.locator("#photo-mask [role=alert]", has_text=name)
        alert.wait_for()
        assert re.search("cannot be read as a picture|pixels", alert.inner_text())
        assert not page.locator("#photo-mask canvas").count()


def test_a_painted_hole_is_filled_and_nothing_else_changes(site: Site, tmp_path: Path) -> None:
    page = site.page
    tab(page, "Photo")
    page.get_by_role("radio", name="Inpaint").check()
    page.locator("#photo-file input[type=file]").set_input_files(photo(tmp_path / "photo.png", 1))
    canvas = page.locator("#photo-mask canvas")
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    for key in ("Shift+ArrowDown", "Shift+ArrowDown", "Space"):  # with the keyboard too
        canvas.press(key)
    page.get_by_label("Steps", exact=False).locator("visible=true").fill("2")
    page.get_by_role("button", name="Start").click()
    state(page, "photo", "complete")
    page.locator("#photo-pictures .bw-outside").wait_for()
    assert page.inner_text("#photo-pictures .bw-outside") == "0"
    words = " ".join(page.locator("#photo-pictures figcaption").all_inner_texts())
    assert all(word in words for word in ("before", "after", "difference"))
    run = RunFolder.open(site.runs / "photo-001")
    mask, given = (from_png((run.path / "photos" / f"{what}-0000.png").read_bytes()) for what in ("mask", "photo"))
    assert 20 < mask[0].sum() < 500
    assert mask[0, 18:, 15:22].any()  # what the keyboard painted
    moved = (run.read_picture(run.pictures[0]) - given).abs().amax(0) > 0
    assert moved.any()
    assert not moved[mask[0] == 0].any()

    page.get_by_role("radio", name="Invert").check()  # takes no mask: none is offered, and what was painted not sent
    canvas.wait_for(state="hidden")
    assert page.locator("#photo-mask img").is_visible()
    assert not page.get_by_role("button", name="Clear the mask").is_visible()
    page.get_by_role("button", name="Start").click()
    page.locator("#photo-status [data-state=complete]", has_text="photo-002").wait_for()
    page.get_by_role("radio", name="Inpaint").check()
    canvas.wait_for(state="visible")


def test_a_photo_is_walked_to_noise_and_back(site: Site, tmp_path: Path) -> None:
    page = site.page
    tab(page, "Walk")
    page.locator("#walk-file input[type=file]").set_input_files(photo(tmp_path / "photo.png", 2, (40, 50)))
    page.get_by_alt_text("picture").locator("visible=true").first.wait_for()
    page.get_by_label("Steps each way").fill("3")
    assert page.get_by_label("Flow").input_value() == "bundled:cifar10-prg"
    page.get_by_role("button", name="Walk", exact=True).click()
    state(page, "walk", "complete")
    run, seen = RunFolder.open(site.runs / "walk-001"), {}
    slider = page.locator("#walk-depth input[type=range]")
    for key, depth in (("Home", "0.00"), ("End", "1.00")):
        slider.press(key)
        page.locator(f"#walk-pictures [data-depth='{depth}']").wait_for()
        calls = page.locator("#walk-pictures .bw-calls")  # what the flow takes each picture for
        assert calls.count() == 2
        assert all(len(re.findall(r"\d+ %", text)) == 3 for text in calls.all_inner_texts())
        seen[depth] = page.locator("#walk-pictures img").evaluate_all("all => all.map(one => one.src)")
    assert len(seen["0.00"]) == len(seen["1.00"]) == 2
    assert seen["0.00"][0] != seen["0.00"][1]  # what is lost on the way
    assert seen["1.00"][0] == seen["1.00"][1]  # the turn
    assert [record["way"] for record in run.pictures] == ["there"] * 4 + ["back"] * 4


def test_two_runs_stand_side_by_side_and_settings_come_back(site: Site) -> None:
    page = site.page
    tab(page, "Runs")
    page.get_by_role("button", name="Show generate-002").click()
    page.locator("#runs-shown .bw-beside[data-sides='1']").wait_for()
    page.locator("#runs-other input").click()
    page.get_by_role("option", name="generate-001").click()
    page.locator("#runs-shown .bw-beside[data-sides='2']").wait_for()
    headings = page.locator("#runs-shown .bw-beside h3").all_inner_texts()
    assert headings == ["generate-002", "generate-001"]
    seed = page.locator("#runs-shown tr", has=page.get_by_role("rowheader", name="seed", exact=True))
    assert seed.locator("td").all_inner_texts() == ["1", "0"]
    assert page.locator("#runs-shown img").evaluate_all("all => all.every(one => one.complete && one.naturalWidth)")
    report = page.get_by_role("link", name="Open the report side by side").get_attribute("href")
    assert "Side by side" in page.request.get(site.address + report, timeout=LONG).text()
    page.get_by_role("button", name="Load settings").click()
    page.get_by_role("button", name="Draw").locator("visible=true").wait_for()
    assert page.get_by_label("Seed").locator("visible=true").input_value() == "1"
    assert page.get_by_label("Steps", exact=False).locator("visible=true").input_value() == "80"


def test_nothing_else_is_served(site: Site, tmp_path: Path) -> None:
    own = urlsplit(site.address)
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    recipe = site.runs / "generate-001" / "recipe.toml"

    cookie = "; ".join(f"{one['name']}={one['value']}" for one in site.page.context.cookies())

    def got(path: str, **headers: str) -> tuple[int, bytes]:
        headers = {"Cookie": cookie, **headers}
        with closing(http.client.HTTPConnection(own.hostname or "", own.port)) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    assert got("/picture?run=generate-001&file=images/0000-frog.png")[1][:4] == b"\x89PNG"
    up = "../" * 12
    for path in (
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={recipe}",
        "/gradio_api/file=pyproject.toml",
        f"/gradio_api/file={up}etc/passwd",
        f"/gradio_api/file=%2e%2e/{up}etc/passwd",
        "/gradio_api/file=http://127.0.0.1:9/",
        "/gradio_api/proxy=http://127.0.0.1:9/",
        f"/picture?run=generate-001&file={up}{str(secret)[1:]}",
        f"/picture?run={up}{str(tmp_path)[1:]}&file=secret.png",
        "/picture?run=generate-001&file=recipe.toml",
        "/picture?run=generate-001&file=images/../recipe.toml",
        "/report?run=..",
        "/report?run=nothing",
        f"/static/{up}etc/passwd",
        f"/assets/{up}etc/passwd",
    ):
        status, content = got(path)
        assert status in (403, 404), path
        assert b"secret" not in content.replace(str(secret).encode(), b"")
    assert got("/", Host="elsewhere.example")[0] == 403
    assert got("/", Origin="http://elsewhere.example")[0] == 403
    assert got("/", Origin="null")[0] == 403
    assert got("/", Cookie="")[0] == 403
    assert got("/")[0] == 200


def test_a_browser_without_the_token_sees_nothing(site: Site) -> None:
    context = site.browser.new_context()
    page = context.new_page()
    assert page.goto(site.address).status == 403
    assert "the address that bothways studio printed" in page.inner_text("body")
    page.goto(site.way_in)
    page.wait_for_url(site.address)
    page.get_by_role("button", name="Draw").wait_for()
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    context.close()


UNNAMED = """() => {
  const said = (one) => one?.innerText?.trim();
  const by = (one) => (one.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id));
  const texts = (one) => [one, ...(one.labels || []), ...by(one)];
  const named = (one) => one.getAttribute("aria-label") || one.title || texts(one).some(said);
  const controls = document.querySelectorAll("input, textarea, select, button, a, canvas");
  const shown = (one) => one.offsetParent && !one.closest("[aria-hidden=true]") && one.type !== "file";
  return [...controls].filter((one) => shown(one) && !named(one)).map((one) => one.outerHTML.slice(0, 160));
}"""


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_labelled(site: Site, tmp_path_factory, width: int, scheme: str) -> None:
    shots = tmp_path_factory.getbasetemp() / "studio-screens"
    shots.mkdir(exist_ok=True)
    page = site.open(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.locator("#generate-pictures img").first.wait_for()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (sum(ground) > 600) == (scheme == "light")
    for name in ("Generate", "Photo", "Walk", "Predict", "Explain", "Runs"):
        tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(UNNAMED) == [], name
        page.screenshot(path=shots / f"{name.lower()}-{scheme}-{width}.png", full_page=True)
    page.context.close()


@pytest.mark.slow
def test_the_keyboard_is_enough(site: Site) -> None:
    page = site.open(viewport={"width": 1200, "height": 900})
    page.get_by_role("tab", name="Generate").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "generate-start":
            break
    assert page.evaluate("document.activeElement.id") == "generate-start"
    photo_tab = page.get_by_role("tab", name="Photo")
    assert photo_tab.evaluate("one => one.tabIndex") >= 0  # Tab comes to it
    photo_tab.press("Enter")
    page.get_by_role("button", name="Start").wait_for()
    page.context.close()
