"""Whether runs fit: the estimate beside what is used, and refusals with a pretended memory, so that nothing is made."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import bothways
from bothways import UserError, budget
from bothways.studio.jobs import Jobs
from bothways.studio.requests import draw_request
from command import refused, run
from small_flow import write_small_flow
from toy_model import build

HERE = Path(__file__).resolve().parents[1]
TOY = f"{HERE / 'toy_model.py'}:build"

NETWORKS = """
import torch
from torch import nn
from bothways import ModelSpec

SPEC = ModelSpec(size=32, mean=(0.5,) * 3, std=(0.25,) * 3, classes=4)

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 4)

    def forward(self, x):
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        for _ in range(4):
            tokens = tokens + (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return self.head(tokens.mean(1))

def attention():
    torch.manual_seed(0)
    return Attention(), SPEC

def convolutions():
    torch.manual_seed(0)
    body = [layer for k in range(4) for layer in (nn.Conv2d(3 if k == 0 else 16, 16, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)), SPEC
"""

MEASURED = """
import resource, sys, warnings
warnings.simplefilter("ignore")
from bothways.tasks.generate.config import GenerateConfig
from bothways.tasks.generate.memory import cost_of
from bothways.tasks.generate.run import prepare
from bothways.tasks.recipes import configure
from bothways.tasks.work import Where

def most():  # the peak of this process; that of getrusage begins, on Linux, with that of the process that started it
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

config = configure(GenerateConfig, model=sys.argv[1], classes=["0"], recipe="das", n=1, steps=1, verdicts=False,
                   copies=int(sys.argv[2]), size=int(sys.argv[3]))
work = prepare(config, Where())
place = work.setup.place
told = cost_of(work.setup, work.request, float("inf")).of(1, config.views.copies, place.height * place.width)
before = most()
for _ in work.run():
    pass
print(told, most() - before)
"""


@pytest.mark.parametrize(("network", "copies", "size"), [("convolutions", 100, 48), ("attention", 12, 128)])
@pytest.mark.slow
def test_the_estimate_is_what_a_process_then_takes(tmp_path: Path, network: str, copies: int, size: int) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    command = [sys.executable, "-c", MEASURED, f"{tmp_path / 'nets.py'}:{network}", str(copies), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told, used = map(float, done.stdout.split())
    assert used > 100e6  # so that the measurement is not that of the interpreter
    assert used / 2 < told < 2 * used


def pretended(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(budget, "free_memory", lambda device="cpu": free)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--size", 1000, "--n", 1], r"drawings of 1000x1000 pixels .* type --size \d+, or less"),
        (["--copies", 20_000], r"--copies 20000\) would take about .* type --copies \d+"),
        (["--n", 10**9], r"1,000,000,000 pictures of 16x16 pixels .* type --n \d+ or less"),
        (["--size", 10**6], r"4 pictures of 1000000x1000000 pixels .* type --size 2886 or less"),
        (["--size", 700, "--n", 1, "--set", "canvas.engine=explicit", "--set", "canvas.levels=all"], "type --size"),
        (
            ["--objective", "statistics", "--statistics", "batch", "--group", 500, "--n", 500, "--copies", 50],
            r"500 at once.* --group \d+",
        ),
    ],
)
def test_a_drawing_that_does_not_fit(capsys, monkeypatch, tmp_path: Path, typed: list[object], says: str) -> None:
    pretended(monkeypatch, 300e6)
    said = refused(
        capsys, "generate", TOY, "--class", "anchor", "--recipe", "das", "--steps", 1, *typed, "--out", tmp_path / "out"
    )
    assert re.search(says, said), said
    assert not (tmp_path / "out").exists()


def test_what_the_line_says_to_type_then_fits_and_one_more_does_not(capsys, monkeypatch, tmp_path: Path) -> None:
    pretended(monkeypatch, 30e6)
    given = ("generate", TOY, "--class", "anchor", "--n", 1, "--steps", 1, "--recipe", "das", "--dry-run", "--copies")
    said = refused(capsys, *given, 5000)
    most = int(said.split("--copies ")[-1].split()[0].rstrip(","))
    assert 1 < most < 5000
    assert run(*given, most) == 0
    capsys.readouterr()
    assert "--copies" in refused(capsys, *given, most + 1)


def test_fewer_pictures_at_once_are_the_same_pictures(monkeypatch) -> None:
    model = bothways.load_model(*build())
    settings = {"n": 12, "recipe": "das", "steps": 2, "verdicts": False, "seed": 3}
    usual = bothways.generate(model, ["anchor"], **settings)
    pretended(monkeypatch, 2e6)
    with pytest.warns(UserWarning, match=r"--batch 12 would not fit into memory; \d+ at once are drawn, the same ones"):
        fewer = bothways.generate(model, ["anchor"], batch=12, **settings)
    assert fewer.images.equal(usual.images)
    assert len({frame.batch for frame in fewer.frames}) > 1


def test_a_batch_that_is_smaller_than_a_group_is_told_in_a_line() -> None:
    given = {"recipe": "icons", "n": 5, "statistics": "batch", "batch": 2, "steps": 1, "verdicts": False}
    with pytest.warns(UserWarning, match="--batch 2: 10 pictures share a statistic"):
        bothways.generate("bundled:cifar10-resnet", "frog", **given)


def test_a_disk_that_is_full_is_told_before_anything_is_drawn(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(budget, "free_disk", lambda place: 10_000.0)
    given = ("generate", TOY, "--class", "anchor", "dragon", "--steps", 1, "--recipe", "das", "--n")
    said = refused(capsys, *given, 50, "--out", tmp_path / "out")
    assert "100 pictures of 16x16 pixels would take about 77 kB on the disk" in said
    assert "type --n 6 or less" in said
    assert run(*given, 6, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.filterwarnings("ignore:no memory was left")  # fewer at once are tried first
def test_the_end_of_memory_during_a_run_is_one_line(capsys, monkeypatch, tmp_path: Path, error: Exception) -> None:
    def fails(*given: object) -> None:
        raise error

    monkeypatch.setattr("bothways.tasks.generate.drawing.ascend", fails)
    given = ("generate", TOY, "--class", "anchor", "--recipe", "das", "--steps", 1, "--out", tmp_path / "out")
    assert run(*given) == 1
    _, said = capsys.readouterr()
    assert said == "bothways: no memory is left, and what was finished is kept; type a smaller --batch or --size\n"


# ---- every other task ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    write_small_flow(folder / "flow")
    for name in ("anchor", "barrel", "candle", "dragon"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(30):
            pixels = torch.randint(0, 255, (8, 8, 3), generator=torch.Generator().manual_seed(number))
            Image.fromarray(pixels.byte().numpy()).save(folder / "data" / name / f"{number}.png")
    return folder


BATCHES: dict[str, tuple[Callable[[Path], list[object]], str, float]] = {
    "sample": (lambda at: [at / "flow", "--n", 100, "--batch", 100], "--batch", 3e6),
    "likelihood": (
        lambda at: [at / "flow", "--data", at / "data", "--batch", 100, "--divergence", "exact"],
        "--batch",
        30e6,
    ),
    "diagnose": (lambda at: [at / "flow", "--data", at / "data", "--n", 64, "--steps", 5], "--n", 1e6),
    "features": (lambda at: [at / "flow", "--data", at / "data", "--probe", "none", "--batch", 100], "--batch", 3.5e6),
    "evaluate": (lambda at: [TOY, "--data", at / "data", "--batch", 100], "--batch", 3e6),
    "predict": (lambda at: [TOY, at / "data", "--batch", 100], "--batch", 3e6),
    "pretrain": (lambda at: ["--data", at / "data", "--batch", 100, "--validation", 2, "--size", 16], "--batch", 40e6),
    "finetune": (lambda at: [at / "flow", "--data", at / "data", "--batch", 100, "--validation", 4], "--batch", 40e6),
}


@pytest.mark.parametrize("task", BATCHES)
def test_a_batch_that_does_not_fit_and_the_one_that_does(capsys, monkeypatch, place, tmp_path, task: str) -> None:
    typed, option, free = BATCHES[task]
    given = [task, *typed(place), *([] if task == "predict" else ["--dry-run", "--out", tmp_path / "out"])]
    pretended(monkeypatch, free)
    said = refused(capsys, *given)
    assert " pictures would take about " in said
    assert f"; type {option} " in said, said
    most = int(said.split(f"type {option} ")[1].split()[0])
    assert not (tmp_path / "out").exists()
    changed = [most if before == option else one for before, one in zip(["", *given], given, strict=False)]
    assert run(*changed) == 0


def test_pairs_of_a_batch_by_transport_count_with_its_square(capsys, monkeypatch, place: Path, tmp_path: Path) -> None:
    pretended(monkeypatch, 60e9)
    given = ["pretrain", "--data", "swiss-roll", "--validation", 2, "--out", tmp_path / "out", "--dry-run"]
    monkeypatch.setattr("bothways.tasks.memory.PLAN", 48e4)
    said = refused(capsys, *given, "--batch", 4000, "--coupling", "sinkhorn")
    assert "steps of 4000 pictures" in said
    assert run(*given, "--batch", 4000, "--coupling", "independent") == 0


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--divergence", "exact"], "directions of an exact divergence .* type --divergence hutchinson"),
        (["--divergence", "hutchinson", "--probes", "10000"], r"10,000 probes of 50 pictures .* type --probes \d+"),
    ],
)
def test_directions_of_a_divergence_count(capsys, monkeypatch, place: Path, tmp_path: Path, typed, says) -> None:
    pretended(monkeypatch, 140e3)
    if "hutchinson" in typed:
        pretended(monkeypatch, 3e6)
    monkeypatch.setattr("bothways.models.catalogue.budget", SimpleNamespace(check_memory=lambda *told: None))
    said = refused(capsys, "likelihood", place / "flow", "--data", place / "data", *typed, "--out", tmp_path / "out")
    assert re.search(says, said), said


def test_statistics_count_rows_and_their_products(capsys, monkeypatch, place: Path, tmp_path: Path) -> None:
    pretended(monkeypatch, 30e6)
    monkeypatch.setattr("bothways.tasks.statistics.run.ROW", 32e3)
    said = refused(capsys, "statistics", TOY, "--data", place / "data", "--out", tmp_path / "own.safetensors")
    assert "numbers of 120 pictures would take about" in said
    most = int(said.split("--limit ")[1].split()[0])
    given = ("statistics", TOY, "--data", place / "data", "--out", tmp_path / "own.safetensors", "--limit")
    assert run(*given, most) == 0


def test_probes_count_the_rows_of_a_column(capsys, monkeypatch, place: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("bothways.tasks.features.run.PROBE_BYTES", 24e9)
    given = ["features", place / "flow", "--data", "digits", "--out", tmp_path / "out", "--dry-run"]
    assert "probes of 1,797 rows" in (said := refused(capsys, *given))
    assert "type --probe none" in said or "type --limit" in said
    capsys.readouterr()
    assert run(*given, "--probe", "none") == 0


def test_times_of_very_many_steps(capsys, monkeypatch, place: Path, tmp_path: Path) -> None:
    pretended(monkeypatch, 1e9)
    said = refused(capsys, "sample", place / "flow", "--n", 1, "--steps", 10**8, "--out", tmp_path / "out")
    assert "the times of 100,000,000 steps would take about 3.2 GB of memory, and 1 GB are free; type --steps" in said


def test_a_job_of_the_studio_says_so_and_the_server_goes_on(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "runs")
    try:
        job = jobs.submit(
            draw_request("bundled:cifar10-resnet", ("frog",), "", "das", 1, 1, 0, "", "canvas.size=9999999")
        )
        for _ in range(6000):
            if not job.active:
                break
            threading.Event().wait(0.01)
        assert job.state == "failed"
        assert job.message.startswith("1 picture of 9999999x9999999 pixels would take about 3.6 PB of memory")
    finally:
        jobs.close()


@pytest.mark.parametrize("changes", ["copies=900000", "canvas.size=50000\ncopies=4"])
def test_a_form_of_the_studio_is_refused_in_one_line(tmp_path: Path, changes: str) -> None:
    request = draw_request(TOY, ("anchor",), "", "das", 1, 1, 0, "", changes)
    with pytest.raises(UserError, match="free; type") as told:
        request.prepare(tmp_path / "out")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()
