"""Pictures that are decoded as they are needed: those of the same source in memory, bit for bit, in the same order."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bothways
from bothways import UserError, budget, load_images
from bothways.data.images import Augmentation, batches
from bothways.data.loader import prefetch
from bothways.data.rows import arrow, stored
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet
from bothways.data.splits import holdout
from bothways.numerics.footprint import peak_bytes
from bothways.tasks.train.config import InputConfig
from bothways.tasks.train.plan import resolved
from bothways.types import RunError
from stored_pictures import png, write_cifar, write_folder, write_parquet, write_tars

MADE: dict[str, Callable[[Path], Path]] = {
    "folder": lambda place: write_folder(place, 20),
    "parquet": lambda place: write_parquet(place, (9, 6, 5)),
    "tars": lambda place: write_tars(place, (9, 6, 5)),
    "cifar": lambda place: write_cifar(place, (4, 4, 4, 4, 4)),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def on_demand(address: object, **options: object) -> StoredSet:
    found = open_images(address, in_memory=0, **options)  # type: ignore[arg-type]
    assert isinstance(found, StoredSet)
    return found


@pytest.mark.parametrize("kind", MADE)
def test_batches_are_those_of_memory_bit_for_bit(kind: str, tmp_path: Path) -> None:
    place = MADE[kind](tmp_path / "set")
    held, lazy = load_images(place), on_demand(place)
    assert (len(lazy), lazy.classes, lazy.levels, lazy.shape) == (20, held.classes, held.levels, held.shape)
    assert lazy.labels.equal(held.labels)
    assert torch.cat(list(lazy.parts(7))).equal(held.images)
    one, other = holdout(held, 5, 3), holdout(lazy, 5, 3)
    assert isinstance(other[0], ImageSet)
    assert other[0].images.equal(one[0].images)
    assert other[0].places.equal(one[0].places)  # type: ignore[union-attr, arg-type]
    assert other[1].places.equal(one[1].places)  # type: ignore[arg-type]
    assert other[0].names == one[0].names
    augmentation = Augmentation(crop=1, noise=0.5)
    wanted, found = (batches(part, 4, 7, augmentation) for part in (one[1], other[1]))
    for step in range(7):  # more than two epochs
        assert all(a.equal(b) for a, b in zip(wanted(step), found(step), strict=True))
    again = pickle.loads(pickle.dumps(found))  # as another process is sent it
    assert again(5)[0].equal(wanted(5)[0])


def test_two_workers_decode_the_same(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 20)
    wanted = batches(load_images(place), 4, 0, Augmentation(crop=1))
    made = list(prefetch(batches(on_demand(place), 4, 0, Augmentation(crop=1)), 2, 8, workers=2))
    assert len(made) == 6
    assert all(one[0].equal(wanted(step)[0]) for step, one in enumerate(made, start=2))


def test_what_is_small_is_held_in_memory(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 20)
    decoded = 20 * 3 * 8 * 8 / 1e9
    assert isinstance(open_images(place), ImageSet)
    assert isinstance(open_images(place, in_memory=decoded), ImageSet)
    assert isinstance(open_images(place, in_memory=0.99 * decoded), StoredSet)
    assert isinstance(open_images(place, size=16, in_memory=3.9 * decoded), StoredSet)
    assert isinstance(open_images(torch.rand(4, 3, 8, 8), in_memory=0), ImageSet)  # it is in memory already
    assert isinstance(open_images("swiss-roll", in_memory=0), ImageSet)


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for k in range(64):
        Image.fromarray(np.full((64, 64, 3), k, np.uint8)).save(tmp_path / "set" / f"{k:02}.png")
    whole = 64 * 3 * 64 * 64
    peak = peak_bytes(lambda: batches(on_demand(tmp_path / "set"), 2, 0, Augmentation(crop=0, flip=False))(0))
    assert peak < whole / 3


def test_in_place_of_what_cannot_be_read_comes_the_next_and_it_is_told(tmp_path: Path) -> None:
    place, whole = write_folder(tmp_path / "torn", 12, broken=[1, 5, 6]), write_folder(tmp_path / "whole", 12)
    lazy, good = on_demand(place), on_demand(whole)
    plain = Augmentation(crop=0, flip=False)
    batch = batches(lazy, 4, 2, plain)
    order = lazy.order(2, 0).tolist()
    torn = {k for k, file in enumerate(lazy.rows.files) if file[-7:-4] in ("001", "005", "006")}  # type: ignore[attr-defined]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = list(prefetch(batch, 0, 9, workers=0))
    for step in range(3):
        after = [k for k in order[4 * (step + 1) :] + order[: 4 * (step + 1)] if k not in torn]
        wanted = [k if k not in torn else after.pop(0) for k in order[4 * step : 4 * step + 4]]
        images, labels = good.subset(torch.tensor(wanted)).loaded(), good.labels[wanted]
        assert found[step][0].equal(images.floats())
        assert found[step][1].equal(labels)
    messages = sorted(str(one.message) for one in told)
    assert messages[0] == "3 unreadable pictures were met, and others took their places"
    assert messages[1] == "unreadable picture ant/006.png: no image that can be read; another takes its place"
    assert len(messages) == 4
    with pytest.warns(UserWarning, match="unreadable picture"):  # a resume is the same, whatever came before
        assert batches(on_demand(place), 4, 2, plain)(7)[0].equal(found[7][0])


def test_workers_tell_too(tmp_path: Path) -> None:
    place = write_tars(tmp_path / "set", (6,), broken=[2])
    with pytest.warns(UserWarning, match="unreadable") as told:
        list(prefetch(batches(on_demand(place), 3, 0, Augmentation(crop=1)), 0, 4, workers=1))
    assert {str(one.message) for one in told} == {
        "unreadable picture shard-000000.tar 0002.png: no image that can be read; another takes its place",
        "1 unreadable pictures were met, and others took their places",
    }


def test_where_nothing_can_be_read_it_is_one_line(tmp_path: Path) -> None:
    lazy = on_demand(write_tars(tmp_path / "set", (4,), broken=range(4)), size=8)
    made = prefetch(batches(lazy, 2, 0, Augmentation()), 0, 1, workers=0)
    with pytest.raises(RunError, match=r"has no readable picture left of 4; check the files$"):
        next(made)


@pytest.mark.parametrize("broken", [(), (0, 3, 4, 7)])
def test_a_process_decodes_its_share_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken) -> None:
    lazy = on_demand(write_folder(tmp_path / "set", 12, broken), size=8)
    decoded: list[int] = []
    real = stored.decode_image
    monkeypatch.setattr(stored, "decode_image", lambda *given: decoded.append(1) or real(*given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = batches(lazy, 4, 1, Augmentation(crop=1))
        for step in range(4):
            images, labels = whole(step)
            for rank in range(2):
                decoded.clear()
                part = batches(lazy, 4, 1, Augmentation(crop=1), rank, 2)(step)
                assert part[0].equal(images[rank::2])
                assert part[1].equal(labels[rank::2])
                assert broken or len(decoded) == 2


def test_another_size_is_named(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 6)
    (place / "cat" / "002.png").write_bytes(png(2, side=9))
    lazy = on_demand(place)
    with pytest.raises(UserError, match=r"cat/002.png is of 9x9 pixels and the first picture of 8x8; give one size"):
        list(lazy.parts())
    assert len(torch.cat(list(on_demand(place, size=8).parts()))) == 6


def test_grey_is_known_and_the_first_colour_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    for k in range(6):
        Image.fromarray(np.full((8, 8), 40 * k, np.uint8)).save(grey / f"{k}.png")
    assert on_demand(grey).channels == 1
    Image.fromarray(np.full((8, 8, 3), (1, 2, 3), np.uint8)).save(grey / "4.png")
    assert on_demand(grey).channels == 3
    decoded: list[int] = []
    real = stored.decode_image
    monkeypatch.setattr(stored, "decode_image", lambda *given: decoded.append(1) or real(*given))
    monkeypatch.setattr(stored.StoredSet.parts, "__defaults__", (2,))
    lazy = on_demand(write_folder(tmp_path / "colour", 9))
    decoded.clear()
    assert lazy.channels == 3
    assert len(decoded) == 2


def test_mean_and_deviation_are_of_all(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 20)
    held, lazy = (resolved(InputConfig(), data) for data in (load_images(place), on_demand(place)))
    assert held == lazy
    values = load_images(place).images.double() / 255
    assert held.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert held.std == pytest.approx(values.transpose(0, 1).flatten(1).std(1, correction=0).tolist(), abs=1e-4)


# ---- parquet files, unpacked once ----------------------------------------------------------------------------------


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "bothways" / "rows").glob("*.arrow"))


def test_parquet_files_are_unpacked_once_and_again_when_they_change(tmp_path: Path, monkeypatch) -> None:
    place = write_parquet(tmp_path / "set", (5, 4))
    made: list[int] = []
    real = arrow._unpack
    monkeypatch.setattr(arrow, "_unpack", lambda *given: made.append(1) or real(*given))
    on_demand(place), on_demand(place)
    assert (len(made), len(cached(tmp_path))) == (1, 1)
    write_parquet(place, (6, 4))
    lazy = on_demand(place)
    assert (len(made), len(cached(tmp_path))) == (2, 2)
    assert torch.cat(list(lazy.parts())).equal(load_images(place).images)


def test_what_does_not_fit_on_the_disk_is_refused_unwritten(tmp_path: Path, monkeypatch) -> None:
    place = write_parquet(tmp_path / "set", (5, 4))
    monkeypatch.setattr(budget, "free_disk", lambda place: 100.0)
    with pytest.raises(UserError, match=r"100 B|0 kB are free; set XDG_CACHE_HOME .*, or type --data stream:ADDRESS"):
        open_images(place, in_memory=0)
    assert cached(tmp_path) == []
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "data" / "train-00000-of-00002.parquet"))
    with pytest.raises(UserError, match=r"cannot be unpacked into .*: not a directory; set XDG_CACHE_HOME"):
        open_images(place, in_memory=0)


def test_a_damaged_file_of_the_cache_is_named(tmp_path: Path) -> None:
    lazy = on_demand(write_parquet(tmp_path / "set", (5,)))
    (file,) = cached(tmp_path)
    file.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"\.arrow: the unpacked pictures cannot be read; delete it"):
        list(lazy.parts())


def test_null_cells_and_plain_bytes_are_read_as_from_memory(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    cells = [{"bytes": png(0), "path": "a"}, None, {"bytes": None, "path": "b"}, {"bytes": png(1), "path": None}]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [3, 1, 2, None]}), tmp_path / "structs.parquet")
    plain = pyarrow.array([png(2), None, png(3)], pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"image": plain}), tmp_path / "bytes.parquet")
    for name, read in (("structs", [0, 3]), ("bytes", [0, 2])):
        with pytest.warns(UserWarning, match="unreadable"):
            held = load_images(tmp_path / f"{name}.parquet")
        for before in ("", "stream:"):
            lazy = open_images(f"{before}{tmp_path / name}.parquet", in_memory=0)
            with pytest.warns(UserWarning, match="no image that can be read"):
                assert torch.cat(list(lazy.parts())).equal(held.images)
            assert lazy.labels[read].equal(held.labels)
            assert lazy.classes == held.classes


# ---- a training ----------------------------------------------------------------------------------------------------


TINY = {
    "net": "unet-tiny", "steps": 3, "batch": 4, "validation": 4, "size": 8, "save_every": 1, "workers": 0,
}  # fmt: skip


@pytest.mark.usefixtures("_rough_samples")
def test_a_pretraining_has_the_weights_of_one_from_memory(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 20)
    for name, room in (("held", 1.0), ("lazy", 0.0)):
        bothways.pretrain(place, out=tmp_path / name, in_memory=room, **TINY)
    files = [(tmp_path / name / "flow.safetensors").read_bytes() for name in ("held", "lazy")]
    assert files[0] == files[1]
