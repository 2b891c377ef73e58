"""A run made of a flow from elsewhere is used from any folder, after it was moved, and when its source is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bothways import UserError, finetune, load_classifier, load_flow, pretrain, sample
from command import refused, run
from small_flow import write_small_flow
from zoo import need

pytestmark = pytest.mark.usefixtures("_rough_samples")

NET = """
import bothways
from small_flow import small_unet

def build():
    spec = bothways.ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)
    return small_unet(), spec
"""
PATH = """
from bothways.representation.paths.linear import linear as straight
"""


def tuned(flow: str, out: str) -> None:
    quick: dict[str, Any] = {"fit.steps": 1, "batch": 4, "workers": 0, "validation": 10}
    finetune(flow, "digits", labels=10, out=out, **{"features.steps": 1, **quick})


def answers(run_folder: str) -> Tensor:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return load_classifier(run_folder).outputs(images)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def go() -> None:
        (tmp_path / "other").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "other")

    return go


def test_a_run_of_a_diffusion_model_needs_nothing_else(tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    need("vit")  # diffusers imports transformers, which minds a torchvision that does not fit
    diffusers = pytest.importorskip("diffusers")
    options = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    diffusers.UNet2DModel(**options, **blocks).save_pretrained("ddpm/unet")
    diffusers.DDPMScheduler(num_train_timesteps=100).save_pretrained("ddpm/scheduler")
    tuned("diffusers:ddpm", "walked")
    before, drawn = answers("walked"), sample("walked", 2, steps=2).images
    tuned("walked", "again")  # a classifier made of the flow in the first
    shutil.rmtree("ddpm")
    shutil.move("walked", tmp_path / "moved")
    elsewhere()
    assert torch.equal(answers(str(tmp_path / "moved")), before)
    assert torch.equal(sample(str(tmp_path / "moved"), 2, steps=2).images, drawn)
    answers(str(tmp_path / "made/again"))


def test_a_run_of_ones_own_file_finds_it_from_any_folder_and_beside_it(
    tmp_path: Path, elsewhere: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.py").write_text(NET)
    tuned("net.py:build", "walked")
    before = answers("walked")
    elsewhere()
    assert torch.equal(answers(str(tmp_path / "made/walked")), before)
    shutil.move(tmp_path / "made/net.py", tmp_path / "net.py")
    moved = tmp_path / "made/walked"
    with pytest.raises(UserError) as said:
        answers(str(moved))
    assert f"needs {tmp_path / 'made/net.py'}, which does not exist; put the file there, or into {moved}" in str(
        said.value
    )
    assert "\n" not in str(said.value)
    shutil.copy(tmp_path / "net.py", moved)
    assert torch.equal(answers(str(moved)), before)
    picture = ["evaluate", moved, "--data", "digits", "--limit", 4, "--out", "run"]
    assert f"--allow-code {moved / 'net.py'}" in refused(capsys, *picture)  # it still runs nothing that was not typed
    assert run(*picture, "--allow-code", moved / "net.py") == 0


@pytest.mark.slow
def test_a_flow_on_a_path_of_ones_own_finds_it_from_any_folder(tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    Path("paths.py").write_text(PATH)
    options: dict[str, Any] = {"batch": 4, "workers": 0, "validation": 8}
    pretrain("digits", path="paths.py:straight", steps=1, out="flow", **options)
    elsewhere()
    assert load_flow(str(tmp_path / "made/flow")).spec.path == f"{tmp_path / 'made/paths.py'}:straight"
    (tmp_path / "made/paths.py").unlink()
    with pytest.raises(UserError, match=r"flow.json needs .*paths.py, which does not exist"):
        load_flow(str(tmp_path / "made/flow"))


def test_a_run_of_a_run_needs_neither_the_first_nor_its_place(tmp_path: Path, elsewhere: Callable[[], None]) -> None:
    write_small_flow(Path("flow"))
    tuned("flow", "walked")
    before = answers("walked")
    shutil.rmtree("flow")
    shutil.move("walked", tmp_path / "moved")
    elsewhere()
    assert torch.equal(answers(str(tmp_path / "moved")), before)
