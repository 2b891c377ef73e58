"""Damaged pictures and tables, by seeds: a result, or one line that names what is wrong, in bounded time and memory."""

from __future__ import annotations

import io
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from bothways import UserError, budget, load_images, opening
from bothways.data.given import pictures_of
from bothways.data.readers.decoding import decode_image
from bothways.data.readers.live import tensor_of
from bothways.runs import RunFolder, from_png, to_png
from guard import BrokenError, guarded, outcome
from mutated import OTHERS, mutated_parquet, mutated_picture, picture, whole_pictures
from picture_bomb import bomb

PICTURES, TABLES = 200, 60
SECONDS, MEGABYTES = 20, 600


@pytest.fixture(autouse=True)
def _plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is bounded is bounded where memory is plentiful, too; the guard's limit is of the address space."""
    monkeypatch.setattr(budget, "free_memory", lambda device="cpu": float("inf"))


@pytest.mark.slow
def test_the_guard_ends_what_hangs_and_what_takes_too_much() -> None:
    assert guarded(lambda: 3, seconds=2, megabytes=50) == 3
    with pytest.raises(BrokenError, match="signal"):
        guarded(lambda: all(True for _ in iter(int, 1)), seconds=1, megabytes=500)
    with pytest.raises(BrokenError, match="signal"):
        guarded(lambda: time.sleep(60), seconds=1, megabytes=50)  # which takes no processor time
    with pytest.raises(BrokenError, match=r"MemoryError|MB"):
        guarded(lambda: bytearray(400 * 2**20), seconds=2, megabytes=100)
    with pytest.raises(BrokenError, match="ZeroDivisionError"):
        guarded(lambda: 1 // 0, seconds=2, megabytes=50)


def test_every_whole_picture_is_read() -> None:
    refused = [
        k for k, (_, content) in enumerate(whole_pictures()) if outcome(lambda c=content: decode_image(c)) == "line"
    ]  # type: ignore[misc]
    assert len(whole_pictures()) - len(refused) > 35
    assert all(b"II*" in whole_pictures()[k][1][:4] for k in refused)  # whole numbers of 32 bits have no white


def test_mutated_pictures_are_read_or_named() -> None:
    def each() -> Counter[str]:
        contents = [mutated_picture(number) for number in range(PICTURES)]
        return Counter(outcome(lambda c=content: decode_image(c)) for _, content in contents)  # type: ignore[misc]

    found = guarded(each, seconds=SECONDS, megabytes=MEGABYTES)
    assert found["result"] > 20
    assert found["line"] > 100


def test_a_folder_of_mutated_pictures_counts_those_that_it_skips(tmp_path: Path) -> None:
    readable = 0
    for number in range(PICTURES // 2):
        suffix, content = mutated_picture(number)
        (tmp_path / f"{number:03d}.{suffix}").write_bytes(content)
        readable += outcome(lambda: decode_image(content, 8)) == "result"  # noqa: B023

    def whole() -> tuple[int, int, list[str]]:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = load_images(tmp_path, size=8)
        return len(found), len(found.skipped), [str(one.message) for one in told]

    read, skipped, told = guarded(whole, seconds=SECONDS, megabytes=MEGABYTES)
    assert (read, skipped) == (readable, PICTURES // 2 - readable)
    assert len(told) == 1
    assert told[0].startswith(f"{skipped} unreadable pictures skipped, the first: 0")
    assert "\n" not in told[0]


@pytest.mark.parametrize("door", [decode_image, from_png], ids=["decode", "run"])
def test_what_is_no_picture_is_refused_unopened(door: Callable[[bytes], object], monkeypatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "/bin/false")  # of the program that Pillow would run
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("a program was run"))
    for content in OTHERS:
        assert outcome(lambda c=content: door(c)) == "line"  # type: ignore[misc]
    for size in ((0, 0), (0, 5), (9_000, 9_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)):
        assert outcome(lambda s=size: door(bomb(*s))) == "line"  # type: ignore[misc]


def test_pixels_and_memory_are_bounded_by_the_header() -> None:
    with pytest.raises(ValueError, match=r"^9000 x 9000 pixels are more than 64000000$"):
        decode_image(bomb(9_000, 9_000))
    assert opening.DEEP * 8_000**2 > opening.MEMORY_AT_MOST
    with pytest.raises(ValueError, match=r"^8000 x 8000 pixels would take about 1.2 GB of memory, more than 1 GB$"):
        decode_image(bomb(8_000, 8_000, 16, 0))


@pytest.mark.parametrize(
    ("mode", "kind", "each"), [("RGB", "PNG", "PLAIN"), ("I;16", "PNG", "DEEP"), ("RGB", "WEBP", "PACKED")]
)
def test_a_picture_takes_no_more_memory_than_its_header_told(mode: str, kind: str, each: str) -> None:
    out, side = io.BytesIO(), 2_500
    Image.new(mode, (side, side)).save(out, kind, **({"lossless": True, "quality": 0} if kind == "WEBP" else {}))
    stated = getattr(opening, each) * side**2 / 2**20
    assert guarded(lambda: decode_image(out.getvalue()).shape, seconds=20, megabytes=int(1.1 * stated) + 20)


def test_sixteen_bits_in_parts_are_as_in_one() -> None:
    values = np.arange(600 * 40, dtype=np.uint16).reshape(600, 40) * 2
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    assert np.array_equal(decode_image(out.getvalue())[..., 0], np.round(values / 257.0).astype(np.uint8))


def test_a_damaged_picture_of_pil_is_one_line() -> None:
    for number in range(40):
        _, content = mutated_picture(number)
        try:
            held = Image.open(io.BytesIO(content), formats=opening.FORMATS)
        except Exception:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if held.width * held.height < 10**6:
                outcome(lambda: tensor_of(held, "photo"))  # noqa: B023


def test_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"photo '.*mine.png' cannot be read: no image that can be read"):
        pictures_of(tmp_path / "mine.png", "photo")


def test_input_pictures_of_a_run_are_checked_as_its_pictures_are(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "edit", "settings": {}})
    good, secret = to_png(torch.rand(3, 4, 4)), tmp_path / "secret.png"
    secret.write_bytes(good)
    (folder.path / "photos").mkdir()
    (folder.path / "photos" / "photo-0000.png").write_bytes(good)
    assert len(folder.read_given("photo")) == 1
    (folder.path / "photos" / "photo-0001.png").write_bytes(bomb(30_000, 30_000))
    with pytest.raises(UserError, match=r"photo-0001.png: cannot be read"):
        folder.read_given("photo")
    (folder.path / "photos" / "photo-0001.png").unlink()
    (folder.path / "photos" / "photo-0001.png").symlink_to(secret)
    with pytest.raises(UserError, match=r"'photos/photo-0001.png', outside the run folder"):
        folder.given()


# ---- tables --------------------------------------------------------------------------------------------------------


def test_mutated_tables_are_read_or_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"

    def each() -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(TABLES):
            mutated_parquet(number, file)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[outcome(lambda: load_images(file, size=8), str(file))] += 1
        return found

    found = guarded(each, seconds=SECONDS, megabytes=MEGABYTES)
    assert found["result"] > 5
    assert found["line"] > 20


def _png() -> bytes:
    out = io.BytesIO()
    picture("RGB").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("columns", "facts", "says"),
    [
        ({"image": [1, 2]}, None, "column 'image' is of int64; give encoded pictures"),
        ({"image": [{"path": "a.png"}]}, None, "column 'image' is of struct<path: string>"),
        ({"image": [_png()], "label": [0.5]}, None, r"whole numbers \(column 'label' is of double\)"),
        ({"i\nm": [_png()]}, None, r"no column 'image'; it has 'i\\nm'"),
        ({"image": [None, None]}, None, "column 'image' is of null"),
        ({"image": [_png()]}, b"{", "the entry 'huggingface' of its schema is no table of features"),
        ({"image": [_png()]}, b"[" * 10_000, "the entry 'huggingface' of its schema is no table of features"),
        (
            {"image": [_png()], "label": [0]},
            b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": 3}}}}',
            "name the classes of column 'label' by 3; write a list of names",
        ),
    ],
)
def test_the_column_is_named(tmp_path: Path, columns: dict, facts: bytes | None, says: str) -> None:
    table, file = pyarrow.table(columns), tmp_path / "mine.parquet"
    if facts is not None:
        table = table.replace_schema_metadata({b"huggingface": facts})
    pyarrow.parquet.write_table(table, file)
    with pytest.raises(UserError, match=says) as caught:
        load_images(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_whose_rows_end_early_is_named(tmp_path: Path, monkeypatch) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": [_png()] * 3}), tmp_path / "mine.parquet")
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", lambda *_, **__: iter(()))
    with pytest.raises(UserError, match="is damaged: it ends after row 0"):
        load_images(tmp_path / "mine.parquet")
