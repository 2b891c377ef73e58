"""Data sets in the hub's layout: shards read directly, and the same through the datasets library, by its features."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from bothways import UserError, load_images
from bothways.data.sources import find_images

NAMES = ["ant", "bee", "cat"]
IMAGE, LABEL = {"_type": "Image"}, {"names": NAMES, "_type": "ClassLabel"}
COARSE, NUMBER = {"names": ["insect", "mammal"], "_type": "ClassLabel"}, {"dtype": "int64", "_type": "Value"}


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(seed)).save(out, "PNG")
    return out.getvalue()


def write(path: Path, seeds: Sequence[int], features: Mapping[str, Any], broken: Sequence[int] = ()) -> None:
    """A parquet file as the hub has it: the picture of a seed, its label seed % 3, and every other column."""
    cells = [{"bytes": b"torn" if seed in broken else png(seed), "path": f"{seed}.png"} for seed in seeds]
    made = {"Image": cells, "ClassLabel": [seed % 3 for seed in seeds], "Value": list(seeds)}
    columns = {
        name: [seed % 2 for seed in seeds] if feature is COARSE else made[feature["_type"]]
        for name, feature in features.items()
    }
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(meta), path, row_group_size=2)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of training pictures, one of test, a card beside; the picture and its label are not called so."""
    features = {"id": NUMBER, "img": IMAGE, "fine_label": LABEL, "coarse_label": COARSE}
    folder = tmp_path / "set"
    write(folder / "data" / "train-00000-of-00002.parquet", range(5), features)
    write(folder / "data" / "train-00001-of-00002.parquet", range(5, 8), features, broken=[6])
    write(folder / "data" / "test-00000-of-00001.parquet", [20, 21], features)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A set\n")
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, tmp_path / name)
    datasets.disable_progress_bars()
    return datasets


def refused(address: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_images(address, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["", "hub:"])
def test_shards_in_order_by_their_features(shards: Path, scheme: str, request: pytest.FixtureRequest) -> None:
    if scheme:
        request.getfixturevalue("offline")
    with pytest.warns(UserWarning, match="1 unreadable pictures skipped, the first: ") as caught:
        found = load_images(f"{scheme}{shards}")
    assert len(caught) == 1
    seeds = [0, 1, 2, 3, 4, 5, 7]
    assert np.array_equal(found.images.numpy(), np.stack([picture(s) for s in seeds]).transpose(0, 3, 1, 2))
    assert found.labels.tolist() == [seed % 3 for seed in seeds]
    assert found.classes == tuple(NAMES)
    assert (found.levels, found.channels) == (256, 3)
    name = f"{shards} train row 6" if scheme else "train-00001-of-00002.parquet row 1"
    assert [skipped.split(": ")[0] for skipped in found.skipped] == [name]
    test = load_images(f"{scheme}{shards}", split="test")
    assert np.array_equal(test.images.numpy(), np.stack([picture(s) for s in (20, 21)]).transpose(0, 3, 1, 2))
    spread = find_images(f"{scheme}{shards}", limit=3)
    assert [label for *_, label in spread.entries] == [0, 1, 1]  # pictures 0, 4 and 7
    assert spread.count == 3
    said = refused(f"{scheme}{shards}", split="valid")
    assert "valid" in said
    assert "test" in said


def test_a_folder_with_a_shard_or_a_choice_missing(shards: Path) -> None:
    (shards / "data" / "train-00000-of-00002.parquet").unlink()
    assert "1 files are there of 2; give the folder with all shards" in refused(shards)
    other = shutil.copytree(shards / "data", shards.parent / "many" / "plain")
    assert len(load_images(other.parent, split="test")) == 2  # one configuration is found by itself
    shutil.copytree(other, other.parent / "grey")
    assert f"type one of {other.parent}/grey, {other.parent}/plain" in refused(other.parent, split="test")


def test_features_are_believed_before_names(tmp_path: Path) -> None:
    """A column called label that is a number of something is none."""
    write(tmp_path / "x.parquet", [3, 4], {"image": NUMBER, "photo": IMAGE, "label": NUMBER})
    found = load_images(tmp_path / "x.parquet")
    assert np.array_equal(found.images[1].numpy(), picture(4).transpose(2, 0, 1))
    assert found.labels.tolist() == [-1, -1]
    write(tmp_path / "two-00000-of-00002.parquet", [3], {"image": IMAGE})
    write(tmp_path / "two-00001-of-00002.parquet", [3], {"photo": IMAGE})
    assert "differ in their columns" in refused(tmp_path, split="two")


def test_a_torn_parquet_file_is_said_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", range(200), {"image": IMAGE, "label": LABEL})
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    (tmp_path / "x.parquet").write_bytes(data)
    assert "x.parquet' is damaged after row 0" in refused(tmp_path / "x.parquet")


def test_image_files_through_the_library(tmp_path: Path, offline: Any) -> None:
    for split, seed in (("train", 0), ("train", 1), ("test", 2)):
        place = tmp_path / "set" / split / NAMES[seed]
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(png(seed))
    found = load_images(f"hub:{tmp_path / 'set'}")
    assert np.array_equal(found.images.numpy(), np.stack([picture(0), picture(1)]).transpose(0, 3, 1, 2))
    assert found.labels.tolist() == [0, 1]


def test_configurations_of_a_card(tmp_path: Path, offline: Any) -> None:
    features = {"image": IMAGE, "label": LABEL}
    for name, seed in (("one", 0), ("two", 1)):
        write(tmp_path / "set" / name / "train-00000-of-00001.parquet", [seed], features)
    lines = "".join(f"- config_name: {n}\n  data_files:\n  - split: train\n    path: {n}/*\n" for n in ("one", "two"))
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{lines}---\n")
    assert load_images(f"hub:{tmp_path / 'set'}:two").labels.tolist() == [1]
    assert "'one', 'two'" in refused(f"hub:{tmp_path / 'set'}")


def test_data_of_the_hub_that_are_not_at_hand(tmp_path: Path, offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused("hub:nobody/nothing")
    for part in (
        "'train' of 'nobody/nothing' is neither in the cache",
        str(tmp_path / "HF_DATASETS_CACHE"),
        "type hf download nobody/nothing --repo-type dataset",
    ):
        assert part in said
    assert "type hub:OWNER/NAME" in refused("hub:")
    (tmp_path / "words").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "words" / "train-00000-of-00001.parquet")
    assert "no image column; it has text" in refused(f"hub:{tmp_path / 'words'}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert 'type pip install "bothways[datasets]"' in refused("hub:nobody/nothing")


def test_pictures_of_one_grey_channel_are_known(tmp_path: Path) -> None:
    Image.fromarray(picture(0)[..., 0]).save(tmp_path / "a.png")
    assert load_images(tmp_path).channels == 1
    Image.fromarray(picture(0)).save(tmp_path / "b.png")
    found = load_images(tmp_path)
    assert found.channels == 3
    assert found.subset(torch.tensor([0])).channels == 1
