"""The atlas in a real browser, opened from the disk: it finds, sorts and shows, asks nobody, and runs no name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways import UserError
from bothways.numerics.draws import Draws
from bothways.report import write_report
from bothways.report.share.pages import write_shared
from bothways.runs import RunFolder, from_png, to_png
from command import refused, run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MANY = 1000
HOSTILE = (
    "<script>window.ran = 1</script>",
    '"><img src=x onerror="window.ran = 2">',
    "</li></ul><svg onload=window.ran=3>",
    "' onmouseover='window.ran = 4",
    "{{ 7 * 7 }} ${window.ran = 5}",
    "a#b?c%20d&amp;e",
)


def written(
    folder: Path, names: list[str], classes: int | None = None, n: int = 1, state: str = "complete"
) -> RunFolder:
    """A run of ``generate`` with n pictures of each class, of noise, and a judge."""
    drawn = {"classes": names, "objective": "class"}
    facts = {"address": "a-model", "classes": len(names) if classes is None else classes}
    tables = {
        "task": "generate",
        "settings": {"recipe": "das", "share": {"sheet": False}},
        "drawn": drawn,
        "model": facts,
    }
    made = RunFolder.create(folder, tables)
    every = [(label, name) for _ in range(n) for label, name in enumerate(names)]
    records = [{"index": k, "class": name, "label": label, "seed": 7 * k} for k, (label, name) in enumerate(every)]
    small = Draws(range(len(every))).uniform((3, 8, 8))
    (folder / "images").mkdir(exist_ok=True)
    kept = []
    for record, image in zip(records, small, strict=True):
        file = f"images/{record['index']:04d}.png"
        (folder / file).write_bytes(to_png(image))  # without waiting for the disk, a thousand times
        kept.append(json.dumps({**record, "file": file}))
    (folder / "pictures.jsonl").write_text("\n".join(kept) + "\n")
    shares = [((37 * k) % len(every)) / len(every) for k in range(len(every))]
    judge = {"judge": "a <b>judge</b>", "gave_gradient": False, "wanted_probability": shares, "confidence": shares}
    other = {**judge, "judge": "other", "gave_gradient": True, "wanted_probability": [1 - share for share in shares]}
    made.write_measures({"judges": [other, judge]})
    made.write_status(state, of=len(every))
    return made


# ---- when there is one ---------------------------------------------------------------------------------------------


def test_all_classes_and_all_channels_have_an_atlas_and_a_few_have_none(tmp_path: Path) -> None:
    short = ["--n", 1, "--steps", 1, "--no-verdicts"]
    assert run("generate", TOY, "--class", "all", "--recipe", "das", *short, "--out", tmp_path / "a") == 0
    assert run("generate", TOY, "--class", "anchor", "barrel", "--recipe", "das", *short, "--out", tmp_path / "b") == 0
    assert run("generate", TOY, "--layer", "body.3", "--channel", "all", *short, "--out", tmp_path / "c") == 0
    assert (tmp_path / "a" / "atlas.html").read_text().count("<li ") == 4
    assert "atlas.html" in (tmp_path / "a" / "files.txt").read_text()
    assert not (tmp_path / "b" / "atlas.html").exists()
    drawn = RunFolder.open(tmp_path / "c").settings["drawn"]
    assert drawn["channels"] == list(range(8))
    assert not (tmp_path / "c" / "atlas.html").exists()  # eight are no atlas
    assert "8 channels of body.3" in (tmp_path / "c" / "report.html").read_text()
    write_shared(written(tmp_path / "d", [f"class {k}" for k in range(10)], classes=1000))
    assert (tmp_path / "d" / "atlas.html").exists()


def test_channels_are_numbers_ranges_or_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    quick = {"layer": "body.3", "n": 1, "steps": 1, "verdicts": False}
    of_range = bothways.generate(TOY, channels=["2-4", 3, "7"], **quick)
    assert of_range.tables["drawn"]["channels"] == [2, 3, 4, 7]
    assert bothways.generate(TOY, channels="all", **quick).tables["drawn"]["channels"] == list(range(8))
    typed = ["generate", TOY, "--n", 1, "--steps", 1, "--out", tmp_path / "x"]
    for wrong in ("many", "4-2", "1.5"):
        assert f"--channel {wrong}: type a whole number" in refused(
            capsys, *typed, "--layer", "body.3", "--channel", wrong
        )
    assert "has 8 channels" in refused(capsys, *typed, "--layer", "body.3", "--channel", "0-8")
    assert "no-such" in refused(capsys, *typed, "--layer", "no-such", "--channel", "all")
    with pytest.raises(UserError, match="type --layer"):
        bothways.generate(TOY, classes=0, channels=["all"], **{**quick, "layer": None})


def test_a_run_cut_short_shows_what_is_there_and_goes_on(tmp_path: Path) -> None:
    made: list[int] = []

    def stop(frame: bothways.types.Frame) -> None:
        made.append(frame.step)
        if len(made) == 5:
            raise KeyboardInterrupt

    settings = {"n": 1, "recipe": "das", "steps": 2, "batch": 1, "verdicts": False}
    with pytest.raises(KeyboardInterrupt):
        bothways.generate(TOY, "all", **settings, out=tmp_path / "run", on_frame=stop)
    write_report([tmp_path / "run"], tmp_path / "run" / "report.html")
    page = (tmp_path / "run" / "atlas.html").read_text()
    assert page.count("<li ") == 3
    assert "2 of 4 pictures so far" in page
    assert "not finished, step 1" in page
    bothways.generate(TOY, out=tmp_path / "run", resume=True)
    write_report([tmp_path / "run"], tmp_path / "run" / "report.html")
    page = (tmp_path / "run" / "atlas.html").read_text()
    assert page.count("<li ") == 4
    assert "so far" not in page
    assert "not finished" not in page


def test_a_file_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", ["frog", "ship"])
    (tmp_path / "run" / "atlas.html").write_text("mine")
    with pytest.raises(UserError, match="bothways did not write it"):
        write_shared(folder)
    assert (tmp_path / "run" / "atlas.html").read_text() == "mine"


# ---- in a browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not here")
    if CHROMIUM is None:
        pytest.skip("chromium is not here")
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "a #run"
    write_shared(
        written(folder, [*HOSTILE, "Größe", "jellyfish", *[f"class {k}" for k in range(MANY - 9)], "jellyfish"])
    )
    return folder


@pytest.fixture(scope="module")
def opened(browser: Any, thousand: Path) -> Iterator[Any]:
    """The page, what it asked for, and what it complained of."""
    asked: list[str] = []
    faults: list[str] = []
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto((thousand / "atlas.html").as_uri())
    page.asked, page.faults = asked, faults
    yield page
    assert all(url.startswith("file://") for url in asked)
    assert faults == []
    assert page.evaluate("window.ran") is None


def _reset(page: Any) -> None:
    page.locator("#find").fill("")
    page.locator("#sort").select_option("order")


def names(page: Any, most: int = 3) -> list[str]:
    return page.locator("#grid li:not([hidden]) .name").all_text_contents()[:most]


def test_pictures_are_loaded_as_they_come_into_sight(opened: Any) -> None:
    _reset(opened)
    images = [url for url in opened.asked if "/images/" in url]
    assert 10 < len(images) < MANY / 2
    assert opened.locator("#grid img").first.evaluate("image => image.naturalWidth") == 8
    last = opened.locator("#grid img").last
    assert last.evaluate("image => image.naturalWidth") == 0
    last.scroll_into_view_if_needed()
    opened.wait_for_function("image => image.naturalWidth === 8", arg=last.element_handle())


def test_names_are_found_as_one_types_and_markup_is_text(opened: Any) -> None:
    _reset(opened)
    assert opened.locator("#count").inner_text() == "1,000 classes"
    find = opened.locator("#find")
    find.press_sequentially("jelly")
    assert (names(opened), opened.locator("#count").inner_text()) == (["jellyfish"] * 2, "2 of 1,000 classes")
    find.fill("GROSS")
    assert names(opened) == []
    assert opened.get_by_text("Nothing has this name.").is_visible()
    find.fill("größe")
    assert names(opened) == ["Größe"]
    for name in HOSTILE:
        find.fill(name)
        assert names(opened) == [name]
        opened.locator("#grid li:not([hidden]) button").click()
        assert opened.locator("#viewer-name").inner_text() == name
        opened.keyboard.press("Escape")
    find.fill("7")
    assert "jellyfish" in names(opened, MANY)  # its number
    assert opened.evaluate("window.ran") is None
    assert opened.locator("main script, main svg, dialog script").count() == 0


def test_it_sorts_by_name_and_by_probability(opened: Any) -> None:
    _reset(opened)
    sort = opened.locator("#sort")
    assert sort.locator("option").all_text_contents() == [
        "number", "name", "probability, a <b>judge</b>", "probability, other",
    ]  # fmt: skip
    sort.select_option("name")
    shown = names(opened, MANY)
    assert shown.index("class 2") < shown.index("class 10") < shown.index("jellyfish")
    sort.select_option("0")
    shares = [int(text.split()[0]) for text in opened.locator("#grid .share").all_text_contents()]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 100
    assert len(set(shares)) > 90
    sort.select_option("1")
    shares = [int(text.split()[0]) for text in opened.locator("#grid .share").all_text_contents()]
    assert shares == sorted(shares, reverse=True)
    assert opened.locator("#by").inner_text() == "other (gave the gradient: proves nothing)"
    sort.select_option("0")
    assert opened.locator("#by").inner_text() == "a <b>judge</b>"


def test_a_click_or_keys_show_the_picture_and_its_numbers(opened: Any) -> None:
    _reset(opened)
    first = opened.locator("#grid button").nth(7)
    first.focus()
    opened.keyboard.press("Enter")
    viewer = opened.locator("#viewer")
    assert viewer.is_visible()
    assert opened.locator("#viewer-name").inner_text() == "jellyfish"
    facts = opened.locator("#viewer-facts").inner_text().splitlines()
    assert dict(zip(facts[::2], facts[1::2], strict=True)) == {
        "a <b>judge</b>": "26 %", "other": "74 %", "seed": "49", "file": "images/0007.png",
    }  # fmt: skip
    assert opened.locator("#viewer-picture").evaluate("i => [i.naturalWidth, i.width, i.src.slice(-8)]") == [
        8, 256, "0007.png",
    ]  # fmt: skip
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#viewer-name").inner_text() == "class 0"
    opened.keyboard.press("Escape")
    assert not viewer.is_visible()
    focus = "document.activeElement.querySelector('.name').textContent"
    assert opened.evaluate(focus) == "class 0"
    opened.keyboard.press("ArrowLeft")
    assert opened.evaluate(focus) == "jellyfish"
    opened.keyboard.press("End")
    assert opened.evaluate(focus) == "jellyfish"  # the other of the name
    opened.keyboard.press("/")
    assert opened.evaluate("document.activeElement.id") == "find"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_columns_and_no_sideways_scroll(browser: Any, thousand: Path, scheme: str) -> None:
    page = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme).new_page()
    page.goto((thousand / "atlas.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    tops = page.locator("#grid li").evaluate_all("items => items.slice(0, 6).map((item) => item.offsetTop)")
    assert 2 <= tops.count(tops[0]) <= 3
    page.locator("#grid button").nth(6).click()
    assert page.locator("#viewer").evaluate("v => v.getBoundingClientRect().width") <= 400
    assert page.locator("#viewer").evaluate("v => v.scrollWidth <= v.clientWidth")
    ground, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert ground != ink
    page.close()


def test_several_pictures_of_a_class_are_one_tile_with_the_best_first(browser: Any, tmp_path: Path) -> None:
    folder = written(tmp_path / "run", ["frog", "ship"], n=3)
    write_shared(folder)
    page = browser.new_page()
    page.goto((tmp_path / "run" / "atlas.html").as_uri())
    assert page.locator("#grid li").count() == 2
    assert page.locator("#grid .share").first.inner_text() == "67 %, 3 pictures"
    page.locator("#grid button").first.click()
    shown = page.locator("#viewer-picture").get_attribute("src")
    assert from_png((tmp_path / "run" / str(shown)).read_bytes()).shape == (3, 8, 8)
    seen = [page.locator("#viewer-facts dd").first.inner_text()]
    for _ in range(2):
        page.get_by_role("button", name="After").click()
        seen.append(page.locator("#viewer-facts dd").first.inner_text())
    assert seen == sorted(seen, key=lambda text: -int(text.split()[0]))
    assert page.locator("#viewer-place").inner_text() == "picture 3 of 3"
    page.close()
