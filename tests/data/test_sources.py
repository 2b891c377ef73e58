"""Pictures from parquet and from folders, the good, the broken and the dangerous."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from bothways import reading
from bothways.data.readers.decoding import decode_image
from bothways.data.sources import ImageSet, load_images
from bothways.runs import to_png
from bothways.types import UserError
from hub_parquet import write_hub_parquet

NAMES = ("cat", "dog")


def pixels(seed: int, height: int = 6, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A few bytes that claim to be a huge PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def same(found: ImageSet, wanted: Sequence[np.ndarray]) -> bool:
    return np.array_equal(found.images.numpy(), np.stack(wanted).transpose(0, 3, 1, 2))


def test_the_hubs_parquet_with_its_class_names(tmp_path: Path) -> None:
    arrays = [pixels(i) for i in range(3)]
    write_hub_parquet(tmp_path / "train.parquet", [encoded(a) for a in arrays], [1, 0, None], NAMES)
    for address in (tmp_path, tmp_path / "train.parquet", str(tmp_path)):
        found = load_images(address)
        assert same(found, arrays)
        assert found.images.dtype == torch.uint8
        assert found.labels.tolist() == [1, 0, -1]
        assert found.classes == ("cat", "dog")
        assert found.skipped == ()
        assert len(found) == 3


def test_plain_bytes_without_labels_and_without_metadata(tmp_path: Path) -> None:
    arrays = [pixels(i) for i in range(2)]
    pyarrow.parquet.write_table(pyarrow.table({"image": [encoded(a) for a in arrays]}), tmp_path / "x.parquet")
    found = load_images(tmp_path / "x.parquet")
    assert same(found, arrays)
    assert found.labels.tolist() == [-1, -1]
    assert found.labels.dtype == torch.int64
    assert found.classes == ()


def test_a_missing_split_names_those_there_are(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_hub_parquet(tmp_path / f"{split}.parquet", [encoded(pixels(0))], [0], NAMES)
    assert len(load_images(tmp_path, split="test")) == 1
    with pytest.raises(UserError, match=r"no split 'valid'; it has test, train"):
        load_images(tmp_path, split="valid")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"picture": [b""], "label": [0]}, "no column 'image'; it has picture, label"),
        ({"image": [b""], "label": ["cat"]}, "not whole numbers"),
        ({"image": [b"", None], "label": [0, 1]}, r"no readable picture \(2 unreadable\)"),
        ({"image": ["cat.png"], "label": [0]}, "column 'image' is of string; give encoded pictures"),
    ],
)
def test_parquet_files_that_hold_something_else(tmp_path: Path, table: dict[str, list[object]], said: str) -> None:
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=said):
        load_images(tmp_path / "x.parquet")


def test_addresses_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_images(tmp_path / "none")
    with pytest.raises(UserError, match=r"no readable picture \(0 unreadable\); type a parquet file or a folder"):
        load_images(tmp_path)
    (tmp_path / "x.parquet").write_text("not at all")
    with pytest.raises(UserError, match="not a readable parquet file"):
        load_images(tmp_path / "x.parquet")
    (tmp_path / "x.PNG").write_bytes(to_png(torch.zeros(3, 4, 4)))
    with pytest.raises(UserError, match="is one picture; type the folder that it lies in"):
        load_images(tmp_path / "x.PNG")


def test_a_folder_a_class_in_alphabetical_order(tmp_path: Path) -> None:
    arrays = {f"{name}/{i}.png": pixels(i + 10 * k) for k, name in enumerate(("ant", "bee")) for i in (0, 1)}
    for name, array in reversed(arrays.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(array))
    (tmp_path / "bee" / "notes.txt").write_text("not a picture")
    (tmp_path / "bee" / "folder.png").mkdir()
    (tmp_path / ".cache").mkdir()
    found = load_images(tmp_path)
    assert same(found, list(arrays.values()))
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.classes == ("ant", "bee")


def test_a_folder_of_pictures_without_classes(tmp_path: Path) -> None:
    (tmp_path / "a.BMP").write_bytes(encoded(pixels(0), "BMP"))
    (tmp_path / "b.webp").write_bytes(encoded(pixels(1), "WEBP", lossless=True))
    found = load_images(tmp_path)
    assert same(found, [pixels(0), pixels(1)])
    assert found.labels.tolist() == [-1, -1]


def test_splits_of_class_folders_are_not_taken_for_classes(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "test")):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "0.png").write_bytes(encoded(pixels(seed)))
    found = load_images(tmp_path, split="test")
    assert found.classes == ("cat",)
    assert same(found, [pixels(1)])
    with pytest.raises(UserError, match="no split 'valid'; it has test, train"):
        load_images(tmp_path, split="valid")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for seed, name in enumerate(("bus", "train")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(encoded(pixels(seed)))
    assert load_images(tmp_path).classes == ("bus", "train")


def test_unreadable_pictures_are_named_counted_and_skipped(tmp_path: Path) -> None:
    good = pixels(0)
    cut = encoded(pixels(1, 40, 40))[:400]
    with Image.open(io.BytesIO(encoded(good, "JPEG"))) as opened:
        lossy = np.asarray(opened)
    broken = [cut, b"", b"hello", bomb(20_000, 20_000), bomb(9_000, 9_000), bomb(10_000, 10_000), None]
    cells = [encoded(good), *broken, encoded(good, "JPEG")]
    write_hub_parquet(tmp_path / "train.parquet", cells, [0, *[1] * len(broken), 1], NAMES)
    with pytest.warns(UserWarning, match=r"7 unreadable pictures skipped, the first: train.parquet row 1: ") as caught:
        found = load_images(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert same(found, [good, lossy])
    assert found.labels.tolist() == [0, 1]
    assert [name.split(":")[0] for name in found.skipped] == [f"train.parquet row {i}" for i in range(1, 8)]


def test_a_broken_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(encoded(pixels(0)))
    (tmp_path / "cat" / "b.jpg").write_bytes(b"\xff\xd8\xff and no more")
    with pytest.warns(UserWarning, match=r"1 unreadable pictures skipped.*b\.jpg"):
        assert len(load_images(tmp_path)) == 1


def test_a_file_that_may_not_be_read_is_named_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(encoded(pixels(0)))
    read = reading.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr("bothways.data.readers.entries.read_bytes", refused)
    with pytest.warns(
        UserWarning, match=r"1 unreadable pictures skipped, the first: b\.png: no image that can be read"
    ):
        assert len(load_images(tmp_path)) == 1


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 10_000), (8_001, 8_000)])
def test_a_decompression_bomb_is_refused_before_it_is_opened(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="pixels"):
        decode_image(bomb(*size))


def test_random_damage_never_raises_anything_else() -> None:
    source = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        whole = encoded(pixels(0, 16, 16), kind)
        for turn in range(60):
            data = bytearray(whole[: source.integers(1, len(whole))] if turn % 3 == 0 else whole)
            for place in source.integers(0, min(len(data), 80), 3):
                data[place] = source.integers(256)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert decode_image(bytes(data)).shape[2] == 3
            except ValueError:
                pass


def test_pictures_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    for i, shape in enumerate([(6, 6), (8, 12), (12, 8)]):
        (tmp_path / f"{i}.png").write_bytes(encoded(pixels(i, *shape)))
    with pytest.raises(UserError, match="3 sizes; give one size"):
        load_images(tmp_path)
    assert load_images(tmp_path, size=4).images.shape == (3, 3, 4, 4)
    assert load_images(tmp_path, size=(4, 6)).images.shape == (3, 3, 4, 6)


def test_the_shorter_side_is_resized_and_the_centre_cut_out() -> None:
    wide = pixels(0, 8, 14)
    assert np.array_equal(decode_image(encoded(wide), 8), wide[:, 3:11])
    assert np.array_equal(decode_image(encoded(wide.transpose(1, 0, 2)), 8), wide.transpose(1, 0, 2)[3:11])
    smaller = np.asarray(Image.fromarray(wide).resize((7, 4), Image.Resampling.BICUBIC))
    assert np.array_equal(decode_image(encoded(wide), 4), smaller[:, 1:5])
    assert np.array_equal(decode_image(encoded(wide)), wide)


def test_grey_palette_and_transparent_pictures_become_rgb() -> None:
    grey = pixels(0)[..., 0]
    assert np.array_equal(decode_image(encoded(grey)), np.stack([grey] * 3, 2))
    assert decode_image(encoded(np.dstack([pixels(1), grey]))).shape == (6, 6, 3)


def test_a_subset_keeps_what_belongs_together() -> None:
    whole = ImageSet(torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 2, 2), torch.tensor([5, 6, 7, 8]), ("a",), ("x",))
    part = whole.subset(torch.tensor([3, 1]))
    assert part.images[:, 0, 0, 0].tolist() == [3, 1]
    assert part.labels.tolist() == [8, 6]
    assert (part.classes, part.skipped) == (("a",), ("x",))
