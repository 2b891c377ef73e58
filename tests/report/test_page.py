"""The report: one page that fetches nothing, shows every picture and number, and survives what was not measured."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch
from plotly.offline import get_plotlyjs

from bothways.report import render, write_report
from bothways.report.charts import TEMPLATE, objectives
from bothways.report.pictures import shown_size
from bothways.report.tables import duration, number, significant
from bothways.runs import RunFolder, to_png
from bothways.tasks.generate.section import calls_of, confusion, is_hit, spectrum
from bothways.types import Frame, UserError

CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "<script>alert(1)</script>"]


SPECTRA = {
    "spectrum_slope": -2.134,
    "spectrum_slope_null": -1.91,
    "spectrum": {"frequency": [1 / 32, 1 / 8, 1 / 2], "power": [8.0, 0.5, 0.03125]},
    "spectrum_null": {"frequency": [1 / 32, 1 / 8, 1 / 2], "power": [4.0, 1.0, 0.25]},
}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _judge(name: str, gave: bool, called: list[int], shift: float) -> dict:
    return {
        "judge": name,
        "gave_gradient": gave,
        "called": called,
        "called_names": [CLASSES[c] for c in called],
        "confidence": [0.5 + 0.004 * i for i in range(len(called))],
        "wanted_probability": None,
        "hit_rate": 0.87 - shift,
        "hit_interval": [0.79 - shift, 0.92 - shift],
        "mean_confidence": 0.812,
        "frechet": 9.1234 + shift,
        "frechet_real": 0.812,
        "kernel": 0.512,
        "kernel_real": 0.004,
        "diversity": 6.912,
        "diversity_real": 7.512,
        "n": len(called),
        "n_real": 1000,
    }


def make_run(path: Path, recipe: str, count: int = 20, side: int = 32, shift: float = 0.0) -> RunFolder:
    """A run of random pictures with every kind of number."""
    settings = {"recipe": recipe, "lr": 0.05 + shift, "steps": 20, "crops": True, "levels": [1, 2]}
    tables = {
        "task": "generate",
        "settings": settings,
        "model": {"name": "cifar10-resnet20"},
        "versions": {"bothways": "0.2.0"},
    }
    folder = RunFolder.create(path, tables)
    generator = torch.Generator().manual_seed(count)
    for batch in range(2):
        for step in range(1, 21):
            stats = {"score": step * (batch + 1.0), "log probability": -3.0 / step}
            folder.append_frame(Frame(step, step / 20, None, stats), batch)
    labels = [i * len(CLASSES) // count for i in range(count)]
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    records = [
        {"index": i, "label": label, "class": CLASSES[label], "seed": 100 + i, "own_probability": 0.99}
        for i, label in enumerate(labels)
    ]
    folder.save_pictures(images, records)
    called = [label if i % 6 else (label + 2) % 10 for i, label in enumerate(labels)]
    measures = {
        "judges": [_judge("cifar10-attention", False, called, shift), _judge("cifar10-resnet20", True, labels, 0.0)],
        "images": {
            "spectrum_slope": -2.134,
            "spectrum_slope_null": -1.91,
            "flip_symmetry": 0.1,
            "collapsed": 0.0,
            **SPECTRA,
        },
        "cost": {"seconds": 75.4, "seconds_per_picture": 0.754, "peak_mb": 900.0},
        "citations": ["@article{one,\n  title = {Drawn & <judged>}\n}"],
    }
    folder.write_measures(measures)
    folder.write_status("complete", seconds=75.4, of=count, peak_mb=900.0, started="2026-05-03T10:00:00+00:00")
    return folder


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / "das", "das", 20), make_run(root / "icons", "icons", 10, shift=0.25)]


@pytest.fixture(scope="module")
def html(pair: list[RunFolder]) -> str:
    return render(pair)


def test_nothing_is_fetched(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, key, value)
    assert not page.all("link")
    assert "@import" not in html.split("</style>")[0]
    assert "url(" not in html.split("</style>")[0]
    policy = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert (policy[0]["content"] or "").startswith("default-src 'none'")
    packed = html.split('id="plotly">')[1].split("</script>")[0]
    assert zlib.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_every_picture_is_embedded_as_it_lies_on_disk(html: str, pair: list[RunFolder]) -> None:
    embedded = [a["src"].split(",")[1] for a in Page(html).all("img") if a.get("src")]
    on_disk = [folder.image_path(record).read_bytes() for folder in pair for record in folder.pictures]
    assert sorted(base64.b64decode(content) for content in embedded) == sorted(on_disk)
    assert all(a.get("alt") for a in Page(html).all("img") if a.get("src"))


def test_names_are_text_and_never_markup(html: str) -> None:
    assert "<script>alert(1)" not in html
    assert len(Page(html).all("script")) == 2  # Plotly and ours
    assert "<script>alert(1)</script>" in Page(html).words
    assert "Drawn & <judged>" in Page(html).words


def test_the_numbers_are_there(html: str) -> None:
    words = Page(html).words
    for text in ("87.0 %", "79.0–92.0 %", "9.12", "0.812", "6.91", "7.51", "−2.13", "−1.91", "1 min 15 s", "900 MB"):
        assert text in words, text
    assert words.count("gave the gradient: proves nothing") == 2 + 2 + 2  # the comparison, the legends, the tables
    assert "das drew 20 pictures of 10 classes with cifar10-resnet20 in 1 min 15 s on 3 May 2026." in words
    assert 'data-csv="9.1234"' in html
    assert 'data-csv="cifar10-resnet20 (gave the gradient: proves nothing)"' in html
    buttons = [json.loads(a["data-facts"] or "") for a in Page(html).all("button") if a.get("data-facts")]
    assert buttons[0] == [["seed", "100"], ["own probability", "0.9900"]]


def test_one_run_has_no_comparison_and_two_have(html: str, pair: list[RunFolder]) -> None:
    assert "Side by side" in Page(html).words
    assert "Side by side" not in Page(render(pair[:1])).words
    assert html.count('class="differs"') == 4  # recipe and lr, in two columns


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    bare = RunFolder.create(tmp_path / "bare", {"task": "generate", "settings": {"recipe": "das"}})
    bare.write_status("stopped", "Ctrl-C", of=4)
    text = Page(render([bare])).words
    assert text.count("not measured") >= 4
    assert "no picture finished" in text
    assert "Stopped after 0 of 4 pictures: Ctrl-C" in text

    half = RunFolder.create(tmp_path / "half", {"task": "generate", "settings": {}})
    half.save_pictures(torch.rand(2, 3, 40, 30), [{"index": 0, "label": None}, {"index": 1}])
    half.write_measures({"judges": [{"judge": "j", "hit_rate": None, "called": [3]}], "images": None, "cost": {}})
    text = Page(render([half, bare])).words
    assert "generate drew 2 pictures on " in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_controls_beside_the_drawn_set_get_their_rows(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "generate", "settings": {}})
    judge = {"judge": "j", "hit_rate": 0.5}
    folder.write_measures({"sets": {"drawn": {"judges": [judge]}, "noise": {"judges": [{**judge, "hit_rate": 0.125}]}}})
    words = Page(render([folder])).words
    assert "50.0 %" in words
    assert "12.5 %" in words
    assert "on noise" in words


def test_charts_are_valid_plotly_and_count_right() -> None:
    pictures = [{"label": c, "class": CLASSES[c]} for c in (0, 0, 1, 2)]
    judge = _judge("j", False, [0, 1, 1, 5], 0.0)
    chart = confusion(judge, pictures)
    assert chart is not None
    go.Figure(chart.figure)  # raises on any property that Plotly does not know
    trace = chart.figure["data"][0]
    assert trace["x"] == ["plane", "car", "bird", "dog"]
    assert trace["z"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    words = "2 of 4 predicted as their target class; most frequent error: plane predicted as car (1)"
    assert chart.words.startswith(words)
    by_number = confusion({**judge, "called_names": None}, pictures)
    assert by_number is not None
    assert by_number.figure["data"][0]["z"] == trace["z"]
    assert confusion(judge, [{}] * 4) is None

    frames = [{"step": s, "stats": {"a": v, "b": None}} for s, v in ((1, 1.0), (2, 5.0), (1, 3.0))]
    (line,) = objectives(frames)
    go.Figure(line.figure)
    assert (line.figure["data"][0]["x"], line.figure["data"][0]["y"]) == ([1, 2], [2.0, 5.0])


def test_a_judge_that_calls_a_class_by_its_synonyms_is_right_on_the_page_as_in_its_hit_rate() -> None:
    pictures = [{"label": 0, "class": "tench, Tinca tinca"}, {"label": 1, "class": "goldfish"}]
    judge = {"judge": "j", "called": [0, 1], "called_names": ["tench", "goldfish, Carassius auratus"]}
    assert [is_hit(judge, k, picture) for k, picture in enumerate(pictures)] == [True, True]
    chart = confusion(judge, pictures)
    assert chart is not None
    assert chart.words.startswith("2 of 2 predicted as their target class")


def test_a_share_is_rounded_under_a_picture_as_on_the_contact_sheet() -> None:
    judge = {**_judge("j", False, [0], 0.0), "confidence": [0.309], "wanted_probability": [0.309]}
    record = {"label": 0, "class": CLASSES[0]}
    assert [call["short"] for call in calls_of({"judges": [judge]}, 0, record)] == ["31 %"]


def test_a_channel_or_a_prompt_is_no_class_that_a_judge_could_predict() -> None:
    pictures = [{"label": None, "class": "stages.2 3"}, {"label": None, "class": "a frog"}]
    judge = _judge("j", False, [0, 1], 0.0)
    assert [is_hit(judge, k, picture) for k, picture in enumerate(pictures)] == [None, None]
    assert confusion(judge, pictures) is None


def test_the_template_of_all_charts_is_valid_and_stands_in_the_page_once(html: str) -> None:
    go.layout.Template(TEMPLATE)  # raises on any property that Plotly does not know
    assert html.count(json.dumps(TEMPLATE)) == 1


def test_the_spectrum_stands_against_its_null() -> None:
    chart = spectrum("drawn", {**SPECTRA, "spectrum_slope": -2.0, "spectrum_slope_null": -1.0})
    assert chart is not None
    go.Figure(chart.figure)
    null, own = chart.figure["data"]
    assert (null["y"], own["y"]) == ([4.0, 1.0, 0.25], [8.0, 0.5, 0.03125])
    assert own["x"] == [1 / 32, 1 / 8, 1 / 2]
    assert [chart.figure["layout"][axis]["type"] for axis in ("xaxis", "yaxis")] == ["log", "log"]
    named = {note["text"]: note for note in chart.figure["layout"]["annotations"]}
    assert named["null"]["y"] == math.log10(0.25)
    assert (named["null"]["yanchor"], named["pictures"]["yanchor"]) == ("bottom", "top")
    assert chart.words == "Slope of the pictures −2.00, of the null −1.00; about −2 for photographs."
    assert spectrum("drawn", {"spectrum": None, "spectrum_null": SPECTRA["spectrum"]}) is None
    alone = spectrum("drawn", {"spectrum": SPECTRA["spectrum"]})
    assert alone is not None
    assert len(alone.figure["data"]) == 1


def test_runs_stand_in_columns(html: str, pair: list[RunFolder]) -> None:
    table = html.split("Side by side</h2>")[1].split("</section>")[0]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', table) == ["", "das", "icons"]
    rates = table.split("Hit-rate, cifar10-attention")[2].split("</tr>")[0]
    assert re.findall(r'data-csv="([^"]*)"', rates)[-2:] == ["0.87", "0.62"]
    columns = html.split('class="columns pictures" style="--n:2"')[1].split("</article>")[0].split("<article")[0]
    of_planes = columns.split("<h4>plane</h4>")[1].split("<h4>")[0]
    assert [len(re.findall("<img", part)) for part in of_planes.split("<section")[1:]] == [2, 1]
    assert html.count("<img src=") == 30  # none twice
    assert 'class="columns' not in render(pair[:1])


def test_a_thousand_classes_keep_their_columns_few() -> None:
    judge = {"judge": "j", "called": list(range(60, 120))}
    chart = confusion(judge, [{"label": c} for c in range(60)])
    assert chart is not None
    trace = chart.figure["data"][0]
    assert len(trace["x"]) == 25
    assert trace["x"][-1] == "other"
    assert sum(map(sum, trace["z"])) == 60


def test_numbers_read_well() -> None:
    written = [significant(v) for v in (0.91234, 9.1, 12345.6, 3e-7, 0.0, -2.134, 99.96)]
    assert written == ["0.912", "9.10", "12,346", "3.00e-07", "0", "−2.13", "100.0"]
    assert [duration(v) for v in (0.61, 75.4, 7300)] == ["0.610 s", "1 min 15 s", "2 h 01 min"]
    assert [number(v).text for v in (None, "x", float("nan"), True)] == ["not measured"] * 4
    sizes = [shown_size(*size) for size in ((32, 32), (28, 28), (64, 64), (80, 80), (96, 96), (224, 112), (512, 256))]
    assert sizes == [(96, 96), (112, 112), (128, 128), (128, 128), (96, 96), (224, 112), (224, 112)]


def test_the_file_is_written_or_refused_in_one_line(tmp_path: Path, pair: list[RunFolder]) -> None:
    out = write_report([folder.path for folder in pair], tmp_path / "new" / "report.html")
    assert out.read_text(encoding="utf-8") == render(pair)
    with pytest.raises(UserError, match="is a folder"):
        write_report([pair[0].path], tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="choose a place that can be written"):
        write_report([pair[0].path], tmp_path / "file" / "report.html")
    with pytest.raises(UserError, match="at least one"):
        write_report([], out)
    with pytest.raises(UserError, match="no such folder"):
        write_report([tmp_path / "none"], out)


def test_a_picture_that_is_gone_or_foreign_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "generate", "settings": {}})
    folder.save_pictures(torch.rand(1, 3, 8, 8), [{"index": 0, "class": "frog"}])
    path = folder.image_path(folder.pictures[0])
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="not a PNG"):
        render([folder])
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        render([folder])
    (tmp_path / "secret.png").write_bytes(to_png(torch.zeros(3, 4, 4)))
    (folder.path / "pictures.jsonl").write_text('{"index": 0, "file": "../secret.png"}\n')
    with pytest.raises(UserError, match="outside the run folder"):
        render([folder])


IN_PRINT = """() => [...document.querySelectorAll("table, .main-svg, img, pre")]
  .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here")
def test_the_page_in_a_browser_and_on_paper(tmp_path: Path, pair: list[RunFolder]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not here")
    written, paper = write_report([folder.path for folder in pair], tmp_path / "r.html"), tmp_path / "r.pdf"
    asked: list[str] = []
    faults: list[str] = []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark").new_page()
        page.set_default_timeout(240_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(written.as_uri())
        page.get_by_role("button", name="car, picture 2;").first.click()
        assert "100" not in page.inner_text("#viewer-facts")
        assert "102" in page.inner_text("#viewer-facts")  # its seed
        assert "cifar10-attention" in page.inner_text("#viewer-calls")
        assert page.eval_on_selector("#viewer-image", "one => one.naturalWidth") == 32
        page.keyboard.press("Escape")
        drawn = "() => [...document.querySelectorAll('.plot')].every((one) => one.querySelector('.main-svg'))"
        page.wait_for_function(drawn)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        page.set_viewport_size({"width": 1000, "height": 800})
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 690, "height": 800})  # of A4 within its margins
        assert page.evaluate(IN_PRINT) == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.pdf(path=paper, format="A4")
        browser.close()
    assert [url for url in asked if not url.startswith(("data:", "blob:", "file:"))] == []
    assert faults == []
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) <= 12
    if reader := shutil.which("pdftotext"):
        words = subprocess.run([reader, paper, "-"], capture_output=True, text=True, check=True).stdout
        titles = (
            "Side by side",
            "The pictures",
            "Judge metrics",
            "Spectrum against its null",
            "Confusion matrices",
        )
        for title in (*titles, "Statistics during drawing", "Reproducibility", "Settings", "Citations"):
            assert title in words, title


def test_runs_that_share_neither_judge_nor_class_are_not_compared(tmp_path: Path, pair: list[RunFolder]) -> None:
    other = RunFolder.create(tmp_path / "other", {"task": "generate", "settings": {"recipe": "photographs"}})
    other.save_pictures(torch.rand(1, 3, 32, 32), [{"index": 0, "class": "ostrich", "label": 9}])
    other.write_measures({"judges": [{"judge": "of-photographs", "hit_rate": 1.0, "n": 1}]})
    html = render([*pair, other])
    assert "Hit-rate, of-photographs" not in html
    columns = html.split('class="columns pictures"')[1].split("</section>\n{% endif")[0]
    assert columns.count("picture 0") > 1
    assert html.count('alt="ostrich, picture 0') == 1
    assert 'aria-label="ostrich, other"' not in html  # it stands with its own run
    assert "Side by side" not in render([pair[0], other])
