"""Every task on every kind of model: the cells of the table in docs/tasks.md, each run as it stands there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from bothways.types import UserError
from zoo import SIZE

DOCUMENT = Path(__file__).parents[2] / "docs" / "tasks.md"
SQUEEZENET = Path(__file__).parents[2] / "examples" / "squeezenet.py"
KINDS = {
    "ResNet": "resnet", "ConvNeXt": "convnext", "ViT": "vit", "DINOv2": "dinov2", "DETR": "detr", "CLIP": "clip",
    "SigLIP": "siglip", "timm": "timm", "open_clip": "open_clip",
}  # fmt: skip
TRAINED = {"bundled", "SqueezeNet (user's file)"}
BOX = (8, 8, 20, 22)
QUICK = {"steps": 2, "n": 1, "judges": []}


def matrix() -> dict[tuple[str, str], str]:
    """{(task, kind): mark} of the table under the heading."""
    lines = DOCUMENT.read_text().split("## The matrix")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, body = rows[0], rows[2:]
    return {(row[0], kind): mark for row in body for kind, mark in zip(head[1:], row[1:], strict=True)}


CELLS = matrix()


@pytest.fixture(scope="module")
def models(zoo: Callable[[str], str], request: pytest.FixtureRequest) -> Callable[[str], Adapter]:
    @cache
    def load(kind: str) -> Adapter:
        if kind == "bundled":
            return bothways.load_model("bundled:cifar10-attention")
        if kind in TRAINED:
            request.getfixturevalue("shared")
            return bothways.load_model(f"{SQUEEZENET}:build")
        return bothways.load_model(zoo(KINDS[kind]))

    return load


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four soft pictures in a folder."""
    folder = tmp_path_factory.mktemp("matrix")
    for i, image in enumerate(Draws(range(4)).uniform((3, 4, 4))):
        (folder / f"{i}.png").write_bytes(to_png(image.repeat_interleave(SIZE // 4, 1).repeat_interleave(SIZE // 4, 2)))
    return folder


def run(task: str, kind: str, model: Adapter, data: Path) -> Any:
    photo = bothways.load_images(data).images[:1].float() / 255
    words, reads = {"prompts": ["a red frog", "ship:-0.3"]}, kind in ("CLIP", "SigLIP", "open_clip")
    asked: dict[str, Any] = words if reads else {"classes": 1}
    layer = model.statistics_layers()[0].removesuffix(":input")
    if task in ("class", "text"):
        return bothways.generate(model, recipe="das", **({"classes": 1} if task == "class" else words), **QUICK)
    if task == "channel":
        return bothways.generate(model, layer=layer, channels=[0, 2], **QUICK)
    if task == "unconditional":
        return bothways.generate(model, data=data, **QUICK)
    if task == "maco":
        wanted = asked if reads or model.spec.count else {"layer": layer}
        return bothways.generate(model, recipe="maco", **wanted, **QUICK)
    if task == "edit":
        return bothways.edit(model, photo, box=BOX, **asked, **QUICK)
    if task == "inpaint":
        return bothways.inpaint(model, photo, box=BOX, data=data, **QUICK)
    if task == "style":
        return bothways.style(model, photo, photo.flip(1), **QUICK)
    if task == "accentuate":
        return bothways.accentuate(model, photo, **(asked if reads else {}), **QUICK)
    return bothways.invert(model, photo, **QUICK)


@pytest.mark.parametrize(("task", "kind"), CELLS, ids=lambda part: part.split(" ")[0])
def test_a_task_on_a_kind_of_model_is_as_the_matrix_says(
    models: Callable[[str], Adapter], data: Path, task: str, kind: str
) -> None:
    model, mark = models(kind), CELLS[task, kind]
    assert mark in ("●", "○", "–")
    assert (mark == "●") <= (kind in TRAINED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four pictures say little
        if mark == "–":
            with pytest.raises(UserError) as refused:
                run(task, kind, model, data)
            assert "type " in str(refused.value) or "state " in str(refused.value)
            return
        result = run(task, kind, model, data)
    own = task in ("edit", "inpaint", "style", "invert", "accentuate")
    assert result.images.shape[-2:] == ((SIZE, SIZE) if own else (model.spec.height, model.spec.width))
    assert bool(torch.isfinite(result.images).all())
    assert float(result.images.std()) > 1e-3
    if task in ("edit", "inpaint"):
        photo = bothways.load_images(data).images[:1].float() / 255
        kept = torch.ones(SIZE, SIZE, dtype=torch.bool)
        kept[BOX[1] : BOX[3], BOX[0] : BOX[2]] = False
        assert torch.equal(result.images[..., kept], photo[..., kept])
        assert not torch.equal(result.images, photo)


def test_the_matrix_is_whole() -> None:
    assert {kind for _, kind in CELLS} == {*KINDS, *TRAINED}
    assert len(CELLS) == 10 * (len(KINDS) + len(TRAINED))
