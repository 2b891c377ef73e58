"""Tar files in the layout of webdataset: samples, labels and splits; what is damaged, packed or leads elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import warnings
from pathlib import Path

import pytest
import torch

from bothways import UserError, load_images
from bothways.data.rows import members
from bothways.data.splits import evaluation_split, is_split
from guard import guarded
from stored_pictures import pixels, png, write_tar, write_tars


def refused(address: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load_images(address, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples_are_read_in_order_with_their_numbers(tmp_path: Path) -> None:
    write_tars(tmp_path / "set", (3, 2))
    for address in (tmp_path / "set", tmp_path / "set" / "shard-{000000..000001}.tar"):
        found = load_images(address)
        assert found.images.permute(0, 2, 3, 1).equal(torch.stack([torch.tensor(pixels(k)) for k in range(5)]))
        assert (found.labels.tolist(), found.classes) == ([0, 1, 2, 0, 1], ())
        assert found.names[3] == "shard-000001.tar 0003.png"
    assert load_images(tmp_path / "set" / "shard-000001.tar").labels.tolist() == [0, 1]
    assert load_images(tmp_path / "set", limit=2).names == ("shard-000000.tar 0000.png", "shard-000001.tar 0004.png")


LABELS = {
    "cls": ({"a.cls": b"frog\n", "b.cls": b" cat "}, ("cat", "frog"), [1, 0]),
    "numbers": ({"a.cls": b"7", "b.cls": b"3"}, ("3", "7"), [1, 0]),
    "unknown": ({"a.cls": b"1", "b.cls": b"-1", "c.cls": b"0"}, (), [1, -1, 0]),
    "json": ({"a.json": b'{"cls": 1, "x": [2]}', "b.json": b'{"label": 0}'}, (), [1, 0]),
    "json names": ({"a.json": b'{"class_name": "frog"}', "b.json": b'{"class": "cat"}'}, ("cat", "frog"), [1, 0]),
    "txt": ({"a.txt": b"frog", "b.txt": b"cat", "c.txt": b"cat", "d.txt": b"cat"}, ("cat", "frog"), [1, 0, 0, 0]),
    "captions": ({f"{k}.txt": f"a picture of {k}".encode() for k in "abcd"}, (), [-1, -1, -1, -1]),
    "cls before txt": ({"a.txt": b"a frog", "a.cls": b"1", "b.cls": b"0", "b.txt": b"odd"}, (), [1, 0]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str, tmp_path: Path) -> None:
    held, classes, numbers = LABELS[kind]
    keys = sorted({name[0] for name in held})
    made = {f"{key}.JPG": png(ord(key)) for key in keys} | held
    file = write_tar(tmp_path / "mine.tar", made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_images(file)
    assert (found.classes, found.labels.tolist()) == (classes, numbers)


def test_folders_dots_and_other_members(tmp_path: Path) -> None:
    made = {
        "d.2/x.png": png(1),
        "d.2/x.cls": b"1",
        "d.1/x.png": png(2),
        "d.1/x.cls": b"0",
        "d.1/note.md": b"",
        ".h": b"1",
    }
    found = load_images(write_tar(tmp_path / "mine.tar", made))
    assert found.labels.tolist() == [1, 0]
    assert found.images[1].permute(1, 2, 0).equal(torch.tensor(pixels(2)))
    with pytest.warns(UserWarning, match="1 samples have no picture and are passed over"):
        assert len(load_images(write_tar(tmp_path / "lone.tar", made | {"lone.cls": b"0"}))) == 2


def test_splits_share_their_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", {"0.png": png(0), "0.cls": b"dog", "1.png": png(1), "1.cls": b"cat"})
    write_tar(tmp_path / "val-000000.tar", {"0.png": png(2), "0.cls": b"dog"})
    assert load_images(tmp_path, split="val").classes == ("cat", "dog")
    assert load_images(tmp_path, split="val").labels.tolist() == [1]
    assert is_split(tmp_path, "train")
    assert evaluation_split(tmp_path) == "val"
    assert "has no split 'test'; it has train, val" in refused(tmp_path, split="test")
    below = tmp_path / "below"
    write_tars(below / "train", (2,)), write_tars(below / "test", (3,))
    assert (len(load_images(below)), len(load_images(below, split="test"))) == (2, 3)
    assert is_split(below, "test")
    alone = write_tars(tmp_path / "alone", (3,))
    assert not is_split(alone, "train")
    assert evaluation_split(alone) == "train"


def test_a_torn_picture_is_named_and_skipped(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 unreadable pictures skipped, the first: shard-000000.tar 0001.png"):
        assert load_images(write_tars(tmp_path / "set", (3,), broken=[1])).labels.tolist() == [0, 2]


def test_missing_shards_are_named(tmp_path: Path) -> None:
    write_tars(tmp_path, (1, 1))
    said = refused(tmp_path / "shard-{000000..000003}.tar")
    assert "2 of 4 files are missing, the first:" in said
    assert "shard-000002.tar" in said
    for pattern in ("shard-{3..1}.tar", "s-{0..1}-{0..1}.tar", "s-{0..999999}.tar"):
        assert "type one range of shards" in refused(tmp_path / pattern)
    assert "does not exist" in refused(tmp_path / "other.tar")


def test_damaged_labels_are_named_with_their_file_and_member(tmp_path: Path) -> None:
    for content, says in [
        ({"a.cls": b""}, "a.cls holds ''; a label is a whole number or the name of a class, in one line"),
        ({"a.cls": b"1\n2"}, "a.cls holds"),
        ({"a.cls": b"9" * 30}, "a.cls holds"),
        ({"a.cls": b"\xff\xfe"}, "a.cls is not text in UTF-8"),
        ({"a.json": b"{"}, "a.json: not JSON"),
        ({"a.json": b"[1]"}, "a.json holds no table"),
        ({"a.json": b'{"cls": 1.5}'}, "a.json: the label '1.5' is no whole number and no name"),
        ({"a.json": b'{"cls": true}'}, "a.json: the label 'True' is no whole number"),
        ({"a.txt": b" " * 2**17}, "at most 65,536 of a label are read"),
        ({"a.cls": b"1", "b.png": png(2), "b.cls": b"frog"}, "some labels are numbers, such as 1, and some are names"),
    ]:
        said = refused(write_tar(tmp_path / "mine.tar", {"a.png": png(1), **content}))
        assert says in said
        assert str(tmp_path / "mine.tar") in said


def test_links_are_passed_over_and_nothing_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(5))
    file = tmp_path / "links.tar"
    with tarfile.open(file, "w") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(member)
        member = tarfile.TarInfo("d.png")
        member.size = len(png(1))
        archive.addfile(member, io.BytesIO(png(1)))
    with pytest.warns(UserWarning, match="3 links or special files are passed over"):
        found = load_images(file)
    assert [name.split()[-1] for name in found.names] == ["d.png"]
    for name in ("../a.png", "/etc/a.png", "b/../../a.png"):
        assert f"member {name!r} leads out of the archive" in refused(write_tar(tmp_path / "out.tar", {name: png(1)}))


def test_every_cut_and_every_changed_header_is_one_line_in_bounded_time(tmp_path: Path) -> None:
    whole = write_tars(tmp_path / "set", (4,)) / "shard-000000.tar"
    content = whole.read_bytes()
    mine = tmp_path / "mine.tar"

    def each() -> int:
        lines = 0
        for cut in (0, 5, 300, 512, 700, 1024, 3000, len(content) // 2 // 512 * 512):
            mine.write_bytes(content[:cut])
            assert str(mine) in refused(mine)
            lines += 1
        for place in (0, 100, 130, 150, 512 * 2, 512 * 2 + 124):  # within headers
            mine.write_bytes(content[:place] + b"\xf0" + content[place + 1 :])
            assert str(mine) in refused(mine)
            lines += 1
        return lines

    assert guarded(each, seconds=20, megabytes=300) == 14


def test_what_an_archive_states_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, 2**32
    mine = tmp_path / "mine.tar"
    mine.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    assert "an extended header states 4,294,967,296 bytes, and at most 1,048,576 are read" in refused(mine)
    large = tarfile.TarInfo("a.png")
    large.size = 2**40
    mine.write_bytes(large.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    assert "it ends within a.png" in refused(mine)
    monkeypatch.setattr(members, "PICTURE_AT_MOST", 10)
    assert "member a.png has" in refused(write_tar(mine, {"a.png": png(1)}))
    monkeypatch.undo()
    monkeypatch.setattr(members, "MEMBERS_AT_MOST", 2)
    assert "has more than 2 members; split it into shards" in refused(write_tars(tmp_path / "set", (3,)))


def test_a_compressed_one_is_refused(tmp_path: Path) -> None:
    plain = write_tars(tmp_path / "set", (2,)) / "shard-000000.tar"
    for name in ("a.tar.gz", "a.tar"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        assert "is compressed, so that no picture in it can be reached; unpack it" in refused(tmp_path / name)


def test_json_of_numbers_as_text_are_names(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "m.tar", {f"{k}{s}": c for k in "ab" for s, c in (
        (".png", png(ord(k))), (".json", json.dumps({"label": f"c{k}"}).encode()))})  # fmt: skip
    assert load_images(file).classes == ("ca", "cb")
