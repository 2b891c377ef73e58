"""The pictures of a page: as on disk while they fit, else near to it, and the page under the size of an e-mail."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bothways.numerics.draws import Draws
from bothways.report import pictures, render
from bothways.report.charts import objectives
from bothways.report.pictures import album
from bothways.runs import RunFolder, to_png
from bothways.types import Frame, UserError

EMAIL = 8_000_000  # bytes


def noise(count: int, side: int) -> torch.Tensor:
    """Drawings at their worst: noise of every colour at every scale, its standard deviation 0.12.

    A drawing of the recipe das at 224 pixels has 0.11, and 83 KB as PNG; these have more.
    """
    draws, scales = Draws(range(count)), [side // 2**k for k in range(5)]
    planes = [draws.normal((3, scale, scale)) for scale in scales]
    grown = [torch.nn.functional.interpolate(p, size=(side, side), mode="bilinear") for p in planes]
    total = sum(plane / plane.std() * min(1, 0.2 + k) for k, plane in enumerate(grown))
    return (0.5 + 0.12 * total / total.std()).clamp(0, 1)


def large_run(path: Path, count: int, side: int = 224) -> RunFolder:
    folder = RunFolder.create(path, {"task": "generate", "settings": {"recipe": "das"}})
    records = [{"index": i, "class": f"class {i % 10}", "seed": i, "own_probability": 0.5} for i in range(count)]
    few = noise(10, side)
    folder.save_pictures(few, records[:10])
    for record in records[10:]:
        record["file"] = f"images/{record['index']:04d}.png"
        shutil.copy(folder.image_path(folder.pictures[record["index"] % 10]), folder.path / record["file"])
    lines = "".join(f"{line}\n" for line in map(json.dumps, [*folder.pictures, *records[10:]]))
    (folder.path / "pictures.jsonl").write_text(lines)
    judge = {"judge": "j", "called_names": ["another class"] * count, "confidence": [0.5] * count, "n": count}
    folder.write_measures({"judges": [judge]})
    for step in range(1, 513):
        folder.append_frame(Frame(step, step / 512, None, {"score": 1 / step, "log probability": -1 / step}), 0)
    folder.write_status("complete")
    return folder


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float) / 255


def test_two_hundred_of_224_pixels_go_into_an_email(tmp_path: Path) -> None:
    folder = large_run(tmp_path / "run", 200)
    on_disk = [folder.image_path(record).read_bytes() for record in folder.pictures]
    assert min(map(len, on_disk)) > 83_000
    html = render([folder])
    assert len(html.encode()) < EMAIL
    shown = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(shown) == 200
    by_class = sorted(range(200), key=lambda i: i % 10)  # as the page has them
    for place in range(0, 200, 21):
        content = base64.b64decode(shown[place])
        apart = decoded(content) - decoded(on_disk[by_class[place]])
        assert apart.shape == (224, 224, 3)
        assert np.abs(apart).mean() < 0.025
        assert abs(apart.mean()) < 0.002
    assert re.search(r"To keep this page small the pictures are embedded as JPEG of quality \d\d;", html)
    assert "the original files are in run/images" in html


def test_small_pictures_stay_as_they_are(tmp_path: Path) -> None:
    paths = [tmp_path / f"{side}-{i}.png" for side in (32, 160) for i in range(6)]
    for path, image in zip(paths, [*noise(6, 32), *noise(6, 160)], strict=True):
        path.write_bytes(to_png(image))
    assert album(paths).shrunk == {}
    total = sum(path.stat().st_size for path in paths)
    kept = album(paths, total // 3)
    assert set(kept.shrunk) == set(paths[6:])
    held = sum(len(kept.shrunk.get(path, kept.contents[path])) for path in paths)
    assert total // 6 < held <= total // 3
    assert kept.embedded(paths[0])["src"] == "data:image/png;base64," + base64.b64encode(paths[0].read_bytes()).decode()
    assert kept.embedded(paths[6])["src"].startswith("data:image/jpeg;base64,")
    assert kept.embedded(paths[6])["width"] == 160


def test_the_best_quality_that_fits_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(to_png(noise(1, 224)[0]))
    sizes = [len(pictures._jpeg(path, path.read_bytes(), *rung)) for rung in pictures.LADDER]
    assert sizes == sorted(sizes, reverse=True)
    for rung, size in list(zip(pictures.LADDER, sizes, strict=True))[:12:4]:
        assert album([path], size).quality == rung[0]
        assert len(album([path], size).shrunk[path]) == size


def test_a_picture_that_is_cut_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(to_png(noise(1, 128)[0])[:900])
    with pytest.raises(UserError, match=r"cut\.png: cannot be read as a PNG; restore the picture"):
        album([path], 10)


def test_flat_pictures_are_not_made_larger(tmp_path: Path) -> None:
    flat, rich = tmp_path / "flat.png", tmp_path / "rich.png"
    flat.write_bytes(to_png(torch.full((3, 128, 128), 0.5)))
    rich.write_bytes(to_png(noise(1, 128)[0]))
    assert set(album([flat, rich], 20_000).shrunk) == {rich}


def test_a_long_training_has_no_more_points_than_a_screen(tmp_path: Path) -> None:
    frames = [{"step": step, "stats": {"loss": 1 / step}} for step in range(1, 50_001)]
    (line,) = objectives(frames)
    assert len(line.figure["data"][0]["x"]) <= 1001
    assert (line.figure["data"][0]["x"][0], line.figure["data"][0]["x"][-1]) == (1, 50_000)
    assert line.words == "From 1 at step 1 to 2e−05 at step 50000."
