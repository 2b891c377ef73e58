"""Contact sheets: how the tiles lie, that no text leaves its tile or is a box, and the sheets of a large run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bothways import UserError
from bothways.numerics.draws import Draws
from bothways.report import write_report
from bothways.report.share import lettering
from bothways.report.share import sheet as sheet_room
from bothways.report.share.lettering import fitted, font_of
from bothways.report.share.pages import write_shared
from bothways.report.share.sheet import HEIGHT, SMALL_TILE, WIDTH, Tile, in_lines, planned, sheets
from bothways.runs import RunFolder, to_png
from command import run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


def tile(name: str, size: tuple[int, int] = (32, 32), **more: object) -> Tile:
    return Tile(lambda: Image.new("RGB", size, (255, 0, 0)), size, name, f"class {len(name)}", **more)


def written(folder: Path, names: list[str | None], side: int = 32, judges: list[dict] | None = None) -> RunFolder:
    """A run of ``generate`` with these classes, a picture each."""
    made = RunFolder.create(folder, {"task": "generate", "settings": {"recipe": "das"}, "model": {"address": "m"}})
    known = list(dict.fromkeys(name for name in names if name))
    records = [
        {"index": k, "class": name, "label": known.index(name) if name else None, "seed": k, "file": f"images/{k}.png"}
        for k, name in enumerate(names)
    ]
    made.save_pictures(Draws(range(len(names))).uniform((3, side, side)), records)
    made.write_measures({"judges": judges or []})
    return made


def judged(name: str, shares: list[float | None], gave_gradient: bool = False) -> dict:
    of_all = {"judge": name, "gave_gradient": gave_gradient, "wanted_probability": shares, "confidence": shares}
    return {**of_all, "called": [0] * len(shares), "called_names": ["frog"] * len(shares)}


# ---- where the tiles lie -------------------------------------------------------------------------------------------


def test_a_class_has_a_row_and_single_pictures_flow_in_rows_of_equal_length() -> None:
    a, b = [tile("a")] * 3, [tile("b")] * 2
    lines = in_lines([a, b], columns=8, rows=9)
    assert [[t and t.name for t in line] for line in lines] == [["a"] * 3, ["b", "b", None]]
    single = in_lines([[tile(str(k))] for k in range(10)], columns=8, rows=9)
    assert [len(line) for line in single] == [5, 5]
    one = in_lines([[tile("a")] * 11], columns=4, rows=9)
    assert [len(line) for line in one] == [4, 4, 3]
    wrapped = in_lines([[tile("a")] * 6, [tile("b")] * 6], columns=4, rows=9)
    assert [[t and t.name for t in line] for line in wrapped] == [
        ["a"] * 4, ["a", "a", None, None], ["b"] * 4, ["b", "b", None, None],
    ]  # fmt: skip
    beside = in_lines([[tile(str(k))] * 2 for k in range(20)], columns=8, rows=9)
    assert [t.name for t in beside[0] if t] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert len(beside) == 5


def test_a_thousand_large_pictures_take_few_bounded_sheets_of_smaller_tiles() -> None:
    few = planned([tile(f"c{k}", (224, 224)) for k in range(20)])
    assert (few.cell, few.sheets) == ((224, 224), 1)
    many = [tile(f"class {k}", (224, 224)) for k in range(1000)]
    plan = planned(many)
    assert plan.cell == (SMALL_TILE, SMALL_TILE)
    assert 1 < plan.sheets <= 6
    made = list(sheets(many, "a title", []))
    assert len(made) == plan.sheets
    red = 0
    for page in made:
        assert page.width <= WIDTH
        assert page.height <= HEIGHT
        red += int((np.asarray(page) == (255, 0, 0)).all(-1).sum())
    assert red == 1000 * SMALL_TILE**2  # every picture, whole


def test_what_is_more_than_the_sheets_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_room, "SHEETS_AT_MOST", 1)
    said = written_texts(monkeypatch)
    (only,) = sheets([tile("a", (224, 224))] * 500, "title", [])
    shown = int((np.asarray(only) == (255, 0, 0)).all(-1).sum()) // SMALL_TILE**2
    assert 200 < shown < 500
    assert f"{500 - shown} more pictures are in the folder images" in said


def written_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is written on sheets from here on."""
    said: list[str] = []
    text = ImageDraw.ImageDraw.text

    def noted(pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, *rest: object) -> None:
        said.append(words)
        text(pen, at, words, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    return said


def test_pictures_of_other_shapes_stand_on_one_line() -> None:
    page = next(sheets([tile("wide", (300, 100)), tile("high", (100, 300))], "title", []))
    pixels = (np.asarray(page) == (255, 0, 0)).all(-1)
    left, right = pixels[:, : page.width // 2], pixels[:, page.width // 2 :]
    assert np.nonzero(left.any(1))[0].max() == np.nonzero(right.any(1))[0].max()
    assert pixels.sum() == 2 * 224 * 75


# ---- letters -------------------------------------------------------------------------------------------------------


def test_no_text_leaves_its_tile_however_long_and_short_ones_are_whole() -> None:
    long = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod " * 3
    share = [{"share": 0.931, "name": ""}, {"share": 0.07, "name": ""}]
    page = next(sheets([tile(long, chances=share), tile("frog", chances=share)], "title", ["x", "y"]))
    pixels = np.asarray(page).astype(int)
    red = (pixels == (255, 0, 0)).all(-1)
    columns = np.nonzero(red.any(0))[0]
    between = np.nonzero(np.diff(columns) > 1)[0][0]
    bottom = np.nonzero(red.any(1))[0].max()
    gap = pixels[bottom + 1 :, columns[between] + 1 : columns[between + 1]]
    assert (gap == 255).all()  # nothing between the captions
    assert (pixels[bottom + 1 :, columns[0] : columns[between]] < 100).any()
    text, font = fitted(long, 13, 150)
    assert text.endswith(("…", "..."))
    assert 100 < font.getlength(text) <= 150
    assert fitted("frog", 13, 150)[0] == "frog"
    assert fitted("a\nb\t c", 13, 150)[0] == "a b c"
    assert fitted("", 13, 150, "class 3")[0] == "class 3"


def test_a_name_is_written_in_a_font_that_has_its_letters_or_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = bytes(font_of("a", 13).getmask(lettering.MISSING))
    for name in ("frog", "Größe", "собака", "κύων", "猫", "고양이", "قط"):
        text, font = fitted(name, 13, 200, "class 7")
        assert all(bytes(font.getmask(c)) != bytes(font.getmask(lettering.MISSING)) for c in text if c != " ")
        assert text in (name, "class 7") or text.isascii()
    assert empty
    monkeypatch.setattr(lettering, "_files", lambda: ())
    assert fitted("猫", 13, 200, "class 7")[0] == "class 7"
    assert fitted("Größe 猫", 13, 200, "class 7")[0] == "class 7"
    assert fitted("café", 13, 200, "class 7")[0] in ("café", "cafe")
    assert fitted("naïve façade", 13, 60)[0].endswith(("…", "..."))


def test_a_font_file_that_is_damaged_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arial.ttf").write_bytes(b"no font")
    monkeypatch.setattr(lettering, "_files", lambda: (tmp_path / "arial.ttf",))
    assert fitted("собака", 13, 200, "class 7")[0] == "class 7"


# ---- of a run ------------------------------------------------------------------------------------------------------


def test_a_run_has_its_sheet_beside_the_report_and_one_page_replaces_another(tmp_path: Path) -> None:
    out = tmp_path / "run"
    typed = ["generate", TOY, "--class", "anchor", "dragon", "--n", 3, "--recipe", "das", "--steps", 1]
    assert run(*typed, "--out", out) == 0
    pixels = np.asarray(Image.open(out / "sheet.png").convert("RGB"))
    folder = RunFolder.open(out)
    for record in folder.pictures:
        own = (255 * folder.read_picture(record)).round().byte().permute(1, 2, 0).numpy()
        assert _found(pixels, own.repeat(6, 0).repeat(6, 1))
    assert "sheet.png" in (out / "files.txt").read_text()
    assert run(*typed, "--out", out, "--overwrite", "--no-sheet") == 0
    assert not (out / "sheet.png").exists()
    assert write_report([out], tmp_path / "elsewhere.html").is_file()
    assert not (out / "sheet.png").exists()


def _found(pixels: np.ndarray, picture: np.ndarray) -> bool:
    high, wide = picture.shape[:2]
    first = np.argwhere((pixels[: 1 - high, : 1 - wide] == picture[0, 0]).all(-1))
    return any(np.array_equal(pixels[y : y + high, x : x + wide], picture) for y, x in first)


def test_a_run_without_targets_says_what_the_judges_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = written_texts(monkeypatch)
    judges = [judged("gave", [0.99, 0.98], gave_gradient=True), judged("judge", [0.4, 0.61])]
    write_shared(written(tmp_path / "a", [None, None], judges=judges))
    assert {"picture 0", "picture 1"} <= set(said)
    assert any(words.startswith("A frog 40 %") for words in said)
    whole = " ".join(said)
    assert whole.index("A judge") < whole.index("B gave (gave the gradient: proves nothing)")
    said.clear()
    write_shared(written(tmp_path / "b", ["frog", "ship"], judges=judges))
    assert "A 40 %, B 99 %" in said
    said.clear()
    lacking = [judged("judge", [None, 0.61]), judged("encoder", [None, None])]
    write_shared(written(tmp_path / "c", ["frog", "ship"], judges=lacking))
    assert {"-", "61 %"} <= set(said)
    assert "encoder" not in " ".join(said)


def test_hostile_names_are_text_and_no_picture_is_one_line(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", ["<script>alert(1)</script>", "../../etc", "\x00\x1b[31m", "a" * 500])
    assert write_shared(folder) == [tmp_path / "run" / "sheet.png"]
    (tmp_path / "run" / "images" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(UserError, match=r"1\.png") as error:
        write_shared(folder)
    assert "\n" not in str(error.value)
    (tmp_path / "run" / "images" / "1.png").unlink()
    with pytest.raises(UserError, match="restore the picture"):
        write_shared(folder)


def test_earlier_sheets_go_and_those_of_the_user_stay(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [f"class {k}" for k in range(340)], side=8)
    own = folder.path / "sheet-9.png"
    own.write_bytes(to_png(torch.zeros(3, 4, 4)))
    names = [path.name for path in write_shared(folder)]
    assert names == [f"sheet-{k}.png" for k in range(1, len(names) + 1)]
    assert len(names) > 1
    lines = (folder.path / "pictures.jsonl").read_text().splitlines()[:5]
    (folder.path / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    assert [path.name for path in write_shared(folder)] == ["sheet.png"]
    assert sorted(path.name for path in folder.path.glob("sheet*")) == ["sheet-9.png", "sheet.png"]
    assert json.loads(lines[0])["class"] == "class 0"


def test_other_tasks_have_none(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "of-another"})
    folder.save_pictures(torch.rand(1, 3, 8, 8), [{"index": 0}])
    assert write_shared(folder) == []
