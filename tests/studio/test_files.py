"""Files of forms: what may be named, and weights that are uploaded."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bothways.runs import to_png
from bothways.studio.files import places, weights
from bothways.studio.files.places import open_only, refuse_files
from bothways.types import UserError
from studio_client import Page, opened
from toy_model import seeded

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
REFUSED = "names a file that was not allowed at the start"


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """mine/ may be named; theirs/ may not, and is the present folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs" / "photos").mkdir(parents=True)
    for folder in ("mine", "theirs"):
        (tmp_path / folder / "a.safetensors").touch()
    (tmp_path / "theirs" / "edit").touch()
    (tmp_path / "theirs" / "digits").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "theirs")
    monkeypatch.chdir(tmp_path / "theirs")
    open_only([tmp_path / "mine"])
    yield tmp_path
    open_only(None)


@pytest.mark.parametrize(
    "setting",
    ["weights", "data", "style", "model", "flow", "canvas.spectrum", "ascent.start_photo", "anything", "recipe"],
)
@pytest.mark.parametrize(
    "name",
    ["{}/theirs/a.safetensors", "a.safetensors", "../theirs/a.safetensors", "{}/mine/../theirs/a.safetensors",
     "{}/mine/link/a.safetensors", "/nothing/there", "~nobody-at-all/a", "hf:{}/theirs", "open_clip:ViT:{}/theirs/x",
     "~/a"],
)  # fmt: skip
def test_a_file_elsewhere_is_refused_whatever_names_it(roots: Path, setting: str, name: str) -> None:
    name = name.format(roots)
    for value in (name, [name], {"deep": name}):
        with pytest.raises(UserError, match=REFUSED) as caught:
            refuse_files({setting: value}, "the form")
        assert "type bothways studio --allow " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bare_name_is_a_file_only_where_files_are_opened(roots: Path) -> None:
    for setting in ("data", "weights", "style", "model", "score", "condition"):
        with pytest.raises(UserError, match=f"{setting} photos"):
            refuse_files({setting: "photos"}, "the form")
    refuse_files({"canvas.kind": "edit", "recipe": "edit", "data": "digits", "classes": ["photos", "/"]}, "the form")


@pytest.mark.parametrize(
    "value",
    ["{}/mine/a.safetensors", "{}/mine", "bundled:cifar10-resnet", "timm:convnext_tiny.fb_in1k", "hub:OWNER/NAME",
     "hf:facebook/dinov2-small", "clip:ViT-B/32", "icons", "0.5", "", None, 3, TOY],
)  # fmt: skip
def test_what_was_allowed_and_names_that_are_no_files_pass(roots: Path, value: Any) -> None:
    value = value.format(roots) if isinstance(value, str) else value
    refuse_files({"weights": value, "model": value, "data": value}, "the form")


@pytest.mark.parametrize(
    "name", ["{}/mine:fog@3", "stream:{}/mine", "stream@9:{}/mine/s-{{0..3}}.tar", "{}/mine:coarse"]
)
def test_what_stands_around_a_folder_of_data_hides_none_and_refuses_none(roots: Path, name: str) -> None:
    refuse_files({"data": name.format(roots)}, "the form")
    for other in (name.replace("mine", "theirs").format(roots), name.replace("{}/mine", "photos").format()):
        with pytest.raises(UserError, match=REFUSED):
            refuse_files({"data": other}, "the form")


def test_without_a_server_any_file_may_be_named() -> None:
    assert not places._ROOTS
    refuse_files({"data": "/etc"}, "the form")


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read in this process: one of its own is started in the test of the page."""
    monkeypatch.setattr(weights, "answer", lambda function, *args: function(*args))


def pth(path: Path, held: Any) -> Path:
    torch.save(held, path)
    return path


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: {"state_dict": own, "epoch": 3}])
def test_a_pth_of_numbers_becomes_safetensors(tmp_path: Path, wrap: Any) -> None:
    own = seeded(seed=12).state_dict()
    kept = weights.keep_weights(pth(tmp_path / "own.pth", wrap(own)), tmp_path / "kept")
    assert (kept.name, kept.parents[1]) == ("own.safetensors", tmp_path / "kept")
    found = load_file(kept)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


class Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.usefixtures("at_once")
def test_what_is_no_weights_is_refused_in_a_line_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "words.pth").write_text("words")
    (tmp_path / "words.safetensors").write_text("words")
    (tmp_path / "a.png").write_bytes(to_png(torch.rand(3, 4, 4)))
    (tmp_path / "link.pth").symlink_to(tmp_path / "words.pth")
    pth(tmp_path / "code.pth", {"w": Runs(mark)})
    pth(tmp_path / "list.pth", [torch.ones(2)])
    pth(tmp_path / "epoch.pth", {"w": torch.ones(2), "epoch": 3})
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("a/data.pkl", "w") as out:
        for _ in range(300):
            out.write(bytes(1_000_000))
    said = {}
    for name in (
        "words.pth",
        "words.safetensors",
        "a.png",
        "link.pth",
        "code.pth",
        "list.pth",
        "epoch.pth",
        "bomb.pth",
    ):
        with pytest.raises(UserError) as caught:
            weights.keep_weights(tmp_path / name, tmp_path / "kept")
        said[name] = str(caught.value)
        assert name in said[name]
        assert "choose a .safetensors file" in said[name]
        assert "\n" not in said[name]
    assert "holds 'epoch'" in said["epoch.pth"]
    assert "unpacks to 300 MB" in said["bomb.pth"]
    assert "holds a list" in said["list.pth"]
    assert not mark.exists()
    assert not list((tmp_path / "kept").glob("*"))


@pytest.mark.usefixtures("at_once")
def test_large_weights_are_refused_and_only_the_newest_are_kept(tmp_path: Path, monkeypatch) -> None:
    with (tmp_path / "large.safetensors").open("wb") as out:
        out.truncate(int(1e6 * weights.MB_AT_MOST) + 1_000_000)
    with pytest.raises(UserError, match="bothways studio --allow FOLDER"):
        weights.keep_weights(tmp_path / "large.safetensors", tmp_path / "kept")
    monkeypatch.setattr(weights, "KEPT", 2)
    kept = []
    for number in range(3):
        save_file({"w": torch.full((2,), float(number))}, tmp_path / "w.safetensors")
        kept.append(weights.keep_weights(tmp_path / "w.safetensors", tmp_path / "kept"))
        os.utime(kept[-1].parent, (number, number))
    assert [file.is_file() for file in kept] == [False, True, True]


# ---- on the page ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    pytest.importorskip("gradio", reason="gradio is not here")
    folder = tmp_path_factory.mktemp("files")
    (folder / "mine").mkdir()
    with opened(folder, [TOY, str(folder / "mine")]) as found:
        yield found


def said(told: dict[str, Any]) -> str:
    return " ".join(str(part) for part in told["output"]["data"])


def test_uploaded_weights_fill_the_field_and_are_used(page: Page) -> None:
    content = io.BytesIO()
    torch.save(seeded(seed=12).state_dict(), content)
    for kind in ("generate", "photo"):
        sent = page.upload("own.pth", content.getvalue())
        told = page.do(page.event(f"{kind}-weights-file", "upload"), [TOY, sent])
        path = told["output"]["data"][1]
        assert path.endswith("/own.safetensors")
        assert torch.equal(load_file(path)["head.bias"], seeded(seed=12).head.bias)
        assert "anchor" in str(told["output"]["data"][2])
    start = page.event("generate-start")
    words = said(page.do(start, page.values(start, Model=TOY, Weights=path, Steps=1, Count=1)))
    assert REFUSED not in words
    assert page.jobs.all[-1].request.values["weights"] == path
    bad = page.upload("words.pth", b"words")
    assert "choose a .safetensors file" in said(page.do(page.event("generate-weights-file", "upload"), [TOY, bad]))


@pytest.mark.parametrize("kind", ["generate", "photo", "walk"])
def test_no_form_opens_a_file_that_was_not_allowed(page: Page, tmp_path: Path, kind: str) -> None:
    for file in ("photo-file", "walk-file"):
        page.do(page.event(file, "upload"), [page.upload("own.png", to_png(torch.rand(3, 5, 7)))])
    secret = tmp_path / "secret.safetensors"
    save_file({"w": torch.ones(2)}, secret)
    own = page.uploads.parent / "mine" / "own.toml"
    own.write_text(f'task = "generate"\n[canvas]\nspectrum = "{secret}"\n')
    start = page.event(f"{kind}-start")
    tried: list[dict[str, str]] = [{"Data": str(secret)}] if kind == "walk" else [
        {"Weights": str(secret)}, {"Real_pictures": str(tmp_path)}, {"Other_settings": f"canvas.spectrum={secret}"},
        {"Model": f"hf:{tmp_path}"}, {"Other_settings": f"start_photo={secret}"},
    ]  # fmt: skip
    tried += [{"Recipe": str(own)}] if kind == "generate" else []
    before = len(page.jobs.all)
    for typed in tried:
        words = said(page.do(start, page.values(start, **typed)))
        assert REFUSED in words, typed
        assert (
            f"bothways studio --allow {secret if 'Model' not in typed and 'Real_pictures' not in typed else ''}"
            in words
        )
    assert len(page.jobs.all) == before
    if kind != "walk":
        told = page.do(page.event(f"{kind}-model", "input"), [TOY, str(secret)])
        assert REFUSED in said(told)
