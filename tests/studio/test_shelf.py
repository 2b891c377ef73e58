"""Run folders as the page sees them: only what lies below one folder, by names that were found there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from bothways.runs import RunFolder
from bothways.studio import fragments
from bothways.studio.difference import difference
from bothways.studio.guard import allowed
from bothways.studio.jobs import Job
from bothways.studio.requests import draw_request
from bothways.studio.server import HOST, bound, serve
from bothways.studio.shelf import Shelf, form_of
from bothways.studio.tabs.labels import in_words_of_the_page
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from bothways.types import UserError
from command import refused
from test_import import watch

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


def made(path: Path, age: int = 0, name: str = "frog") -> RunFolder:
    """A run of two pictures that ended ``age`` seconds ago."""
    folder = RunFolder.create(path, {"task": "generate", "settings": {"recipe": "das", "seed": age}})
    folder.save_pictures(torch.rand(2, 3, 4, 4), [{"index": i, "class": name, "seed": i} for i in range(2)])
    folder.write_status("complete")
    now = path.stat().st_mtime
    os.utime(path / "recipe.toml", (now - age, now - age))
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made(tmp_path / "runs" / "old", 200)
    made(tmp_path / "runs" / "demo" / "das", 100)
    made(tmp_path / "runs" / "new")
    made(tmp_path / "elsewhere")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "notes").mkdir()
    return Shelf(tmp_path / "runs")


def test_runs_are_listed_newest_first_and_links_outside_are_none(shelf: Shelf) -> None:
    assert list(shelf.runs()) == ["new", "demo/das", "old"]
    assert Shelf(shelf.root / "nothing").runs() == {}


def test_files_to_share_are_those_of_the_run_alone(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.run("new").path
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"no")
    (folder / "drawing.gif").symlink_to(secret)
    (folder / "atlas.html").write_text("x")
    for name in ("sheet-10.png", "sheet-9.png"):
        (folder / name).write_bytes(b"x")
    assert [path.name for path in shelf.shared("new")] == ["sheet-9.png", "sheet-10.png"]
    assert shelf.download("new", "sheet-9.png") == folder / "sheet-9.png"
    for file in ("drawing.gif", "atlas.html", "recipe.toml", "../new/sheet-9.png"):
        with pytest.raises(UserError, match="no file"):
            shelf.download("new", file)


def test_a_broken_run_hides_no_other(shelf: Shelf) -> None:
    (shelf.root / "new" / "measures.json").write_text("{")
    (shelf.root / "old" / "recipe.toml").write_text("= no")
    html = fragments.cards(shelf.runs())
    assert html.count("<em>broken</em>") == 2  # the folder of a test has its name too
    assert "Report of demo/das" in html


@pytest.mark.parametrize("name", ["", "..", "../elsewhere", "link", "notes", "nothing", "new/../new", "/"])
def test_no_other_run_is_found(shelf: Shelf, name: str) -> None:
    with pytest.raises(UserError, match="there is no run"):
        shelf.run(name)
    with pytest.raises(UserError, match="there is no run"):
        shelf.report([name])


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("images", "../recipe.toml"),
        ("images", "recipe.toml"),
        ("images", ""),
        ("", "recipe.toml"),
        ("..", "new/images/0000-frog.png"),
        ("images", "outside.png"),
        ("state", "0000-frog.png"),
    ],
)
def test_only_its_pictures_are_given(shelf: Shelf, folder: str, file: str) -> None:
    images = shelf.root / "new" / "images"
    (images / "outside.png").symlink_to(shelf.root.parent / "elsewhere" / "images" / "0000-frog.png")
    assert shelf.picture("new", "images", "0000-frog.png") == images / "0000-frog.png"
    with pytest.raises(UserError, match="has no picture"):
        shelf.picture("new", folder, file)


def test_the_form_of_a_run_asks_the_same_again(tmp_path: Path) -> None:
    changes = {"rms": 0.05, "canvas.levels": [1, 2, 4], "terms.variation.weight": 0.5, "jitter": 2}
    told = {"recipe": "das", "seed": 5, "steps": 2, "n": 3, **changes}
    drawing = work_of("generate", TOY, ["anchor", "barrel"], out=tmp_path / "a", **told)
    result = perform(drawing)
    form = form_of(RunFolder.open(tmp_path / "a").settings)
    assert (form.task, form.model, form.classes) == ("generate", TOY, ("anchor", "barrel"))
    assert len(form.changes.splitlines()) == len(changes)
    again = draw_request(
        form.model, form.classes, "", form.recipe, form.n, form.steps, form.seed, form.data, form.changes
    )
    assert torch.equal(perform(again.prepare(tmp_path / "b")).images, result.images)
    with pytest.raises(UserError, match="is not a drawing"):
        form_of({"task": "pretrain", "settings": {}})


@pytest.mark.parametrize("channels", [[3, 1], None])
def test_the_form_of_a_run_of_a_layer_draws_that_layer_again(tmp_path: Path, channels: list[int] | None) -> None:
    drawing = work_of("generate", TOY, layer="body.3", channels=channels, n=1, steps=2, out=tmp_path / "a")
    result = perform(drawing)
    form = form_of(RunFolder.open(tmp_path / "a").settings)
    assert (form.layer, form.channels) == ("body.3", tuple(channels or ()))
    again = draw_request(
        form.model, form.classes, "", form.recipe, form.n, form.steps, form.seed, form.data, form.changes, "",
        form.layer, " ".join(map(str, form.channels)),
    )  # fmt: skip
    assert torch.equal(perform(again.prepare(tmp_path / "b")).images, result.images)


def test_what_a_run_says_is_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    runs = {"<b>run": made(tmp_path / "a", name=evil), "other": made(tmp_path / "b", 1)}
    for html in (fragments.cards(runs), fragments.beside(runs), fragments.note(evil)):
        assert "<img src=x" not in html
        assert "<b>run" not in html
    assert "&lt;img src=x" in fragments.beside(runs)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("none was given; type --mask FILE, or --box LEFT TOP RIGHT BOTTOM",
         'none was given; fill in "Mask", or "Box instead of a mask"'),
        ("type --mask or --box, and --data", 'fill in "Mask" or "Box instead of a mask", and "Real pictures"'),
        ("type --class NAME (one or several)", 'fill in "Classes" (one or several)'),
        ("type bothways studio --allow my.py:build; then again", None),
    ],
)  # fmt: skip
def test_a_message_names_the_controls_of_the_page(message: str, shown: str | None) -> None:
    assert in_words_of_the_page(message) == (shown or message)
    job = Job("photo-001", Path(), draw_request(TOY, [], "", "das", 1, 1, 0, "", ""), "failed", message)
    for html in (fragments.note(message), fragments.status(job)):
        assert unescape(html).count(shown or message) == 1


def test_the_difference_counts_pixels_in_eight_bits() -> None:
    before = torch.from_numpy(np.random.default_rng(0).integers(0, 200, (3, 6, 8))).float() / 255
    after, mask = before.clone(), torch.zeros(6, 8, dtype=torch.bool)
    mask[1:3, 1:4] = True
    after[0, 1, 1] += 2 / 255
    after[2, 2, 2] += 10 / 255
    after[1, 5, 5] += 0.3 / 255  # less than one step of eight bits
    found = difference(before, after, mask)
    assert (found.changed, found.outside) == (2, 0)
    assert abs(float(found.picture[2, 2, 2]) - 1) < 1e-6
    assert abs(float(found.picture[0, 1, 1]) - 0.2) < 1e-6
    after[1, 5, 5] += 1 / 255
    assert difference(before, after, mask).outside == 1
    assert difference(before, after).outside is None
    assert difference(before, after[:, :3, :4], mask).before.shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("host", "origin", "may"),
    [
        ("127.0.0.1:7860", None, True),
        ("localhost:7860", "http://localhost:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:8000", False),
        ("127.0.0.1:7860", "null", False),
        ("127.0.0.1:7860", "http://elsewhere.example", False),
        ("elsewhere.example:7860", None, False),
        ("", None, False),
    ],
)
def test_only_the_page_itself_may_ask(host: str, origin: str | None, may: bool) -> None:
    assert allowed(host, origin) == may


def test_a_port_that_is_taken_is_refused_in_a_line() -> None:
    with bound(HOST, 0) as door:
        host, port = door.getsockname()
        assert host == "127.0.0.1"
        door.listen()
        with pytest.raises(UserError, match=r"type another, such as --port 7861") as refusal:
            bound(HOST, port)
        assert "\n" not in str(refusal.value)
        assert isinstance(door, socket.socket)


@pytest.mark.slow
def test_the_server_starts_without_asking_anyone(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not here")
    start = "from pathlib import Path; from bothways.studio import guard, jobs, server; runs = Path({!r}); "
    build = "server.build_app(runs, jobs.Jobs(runs), guard.Key('x'), runs / 'uploads')"
    loaded, attempts = watch(start.format(str(tmp_path)) + build)
    assert "gradio" in loaded
    assert attempts == []


COMING = """
import socket, sys
from pathlib import Path
from urllib.parse import urlsplit
from bothways.studio.server import serve

def on_start(address):
    at = urlsplit(address)
    with socket.create_connection((at.hostname, at.port), timeout=60):
        print("came")
    raise KeyboardInterrupt

serve(Path(sys.argv[1]), 0, opened=False, on_start=on_start)
"""


@pytest.mark.slow
def test_who_comes_as_soon_as_it_says_where_it_is_waits(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not here")
    done = subprocess.run([sys.executable, "-c", COMING, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["came"]


def test_without_gradio_it_says_what_to_type(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match="bothways\\[studio\\]"):
        serve(tmp_path, 0, opened=False, on_start=lambda _: None)
    assert 'type pip install "bothways[studio]"' in refused(capsys, "studio", "--no-open", "--runs", tmp_path)
