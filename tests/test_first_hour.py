"""The first hour of a stranger: from the README to a model and data of their own, with a mistake at each step.

Every line is typed as it stands, in one folder, one after the other. An answer is a result, or one line that names
the cure; what a command says to type next is typed.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bothways.numerics.draws import generator
from bothways.runs import to_png
from command import run

pytestmark = [
    pytest.mark.filterwarnings("default"),  # as a shell has it: what a command notes is no error
    pytest.mark.usefixtures("_rough_samples"),
]

NET = """
import torch
from torch import nn

def network():
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
"""
FACTS = "bothways.ModelSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes={classes})"
NAMES = ("oak", "fern", "moss")
QUICK = "--steps 2 --n 1"
FEW = "--steps 2 --batch 8 --workers 0 --validation 16 --save-every 2"
FEW_TUNED = FEW.replace("--steps", "--train-steps")

# (what is typed, exit code, words of the answer). Of a mistake the answer is one line.
FIRST = [
    ("--help", 0, "generate"),
    ("generat bundled:cifar10-resnet", 2, "generate"),
    ("models", 0, "bundled:cifar10-resnet"),
    ("recipes", 0, "icons"),
    ("generate bundled:cifar10-resnet --class frogg", 2, "frog"),
    ("generate bundled:cifar10-resnet --class 10", 2, "no class '10'"),
    (f"generate bundled:cifar10-resnet --class frog {QUICK} --lr .1", 2, "No such option"),
    (f"generate bundled:cifar10-resnet --class frog {QUICK} --set foo=1", 2, "no setting 'foo'"),
    (f"generate bundled:cifar10-resnet --class frog {QUICK} --out taken.txt", 2, "a file is in the way"),
    (f"generate bundled:cifar10-resnet --class frog {QUICK}", 0, "runs/generate-001/report.html"),
    (f"generate bundled:cifar10-resnet --class 0-1 {QUICK}", 0, "runs/generate-002/report.html"),
    ("generate --resume --out runs/nothing", 2, "no run is there to resume"),
    ("generate --resume", 0, "runs/generate-002"),
    ("report runs/generate-001 runs/latest --out both.html", 0, "both.html"),
    ("report runs/nothing", 2, "no such folder"),
    ("cite runs/latest", 0, "@"),
    ("layers bundled:cifar10-resnet", 0, "--layer"),
    (f"generate bundled:cifar10-resnet --layer stage --channel 0 {QUICK}", 2, "bothways layers bundled:cifar10-resnet"),
]
OWN_MODEL = [
    (f"generate resnet50 --class 1 {QUICK}", 2, "timm:resnet50"),
    (f"generate net.pth --class 1 {QUICK}", 2, "--weights FILE.safetensors"),
    (f"generate my.py --class 1 {QUICK}", 2, "my.py:FUNCTION"),
    (f"generate my.py:biuld --class 1 {QUICK}", 2, "type build"),
    (f"generate my.py:module_alone --class 1 {QUICK}", 2, "ModelSpec("),
    (f"generate my.py:nine_classes --class 1 {QUICK}", 2, "3 outputs"),
    (f"generate my.py:build --weights net.pth --class oak {QUICK}", 2, "torch.load(FILE, weights_only=True)"),
    (f"generate my.py:build --weights other.safetensors --class oak {QUICK}", 2, "do not fit the model"),
    (f"generate my.py:build --weights net.safetensors --class elm {QUICK}", 2, "no class 'elm'"),
    (f"generate my.py:build --weights net.safetensors --class oak --recipe das {QUICK}", 0, "runs/generate-001"),
    (f"generate my.py:build --weights net.safetensors --class oak --size 100000000 {QUICK}", 2, "--size"),
]
OWN_DATA = [
    ("statistics my.py:build --weights net.safetensors --data photoz", 2, "'photoz' does not exist"),
    ("statistics my.py:build --weights net.safetensors --data mnist", 2, "hub:ylecun/mnist"),
    ("statistics my.py:build --weights net.safetensors --data photos --out own.safetensors", 0, "--weights"),
    (f"generate my.py:build --unconditional --data own.safetensors {QUICK}", 2, "was measured with other weights"),
    ("explain my.py:build --weights net.safetensors --data photos --n 1 --steps 1 --real 4", 2, "n=1"),
    ("evaluate my.py:build --data photos", 0, "runs/evaluate-001"),
    ("evaluate bundled:cifar10-resnet --data photos", 2, "class"),
    ("predict my.py:build photos/oak/0.png broken.png", 0, "broken.png"),
    ("predict my.py:build nowhere.png", 1, "nowhere.png: no such file"),
    (f"edit my.py:build photos/oak/0.png --class fern --box 9 9 2 2 {QUICK}", 2, "--box"),
    (f"edit my.py:build photos/oak/0.png --class fern --box 2 2 12 12 {QUICK}", 0, "runs/edit-001"),
]
FLOWS = [
    (f"pretrain --data digits {FEW} --out runs/digits", 0, "runs/digits"),
    (f"pretrain --data digits {FEW} --out runs/digits", 2, "--resume to continue"),
    ("pretrain --resume --out runs/digits --batch 9", 2, "fit.batch was 8"),
    ("generate runs/digits --class 1", 2, "flow"),
    ("sample my.py:build --n 1 --steps 1", 2, "path"),
    ("sample runs/digits --n 2 --steps 1", 0, "runs/sample-001"),
    ("sample --resume --n 3", 0, "3 pictures"),
    ("likelihood runs/digits --data digits --steps 1 --limit 4", 0, "bits/dim"),
    ("finetune runs/digitz --data digits", 2, "runs/digitz"),
    (
        f"finetune runs/digits --data digits {FEW.replace('--steps', '--train-steps')} --out runs/walked",
        0,
        "runs/walked",
    ),
    ("evaluate runs/walked --data digits --limit 20", 0, "runs/evaluate-001"),
    ("predict runs/walked photos/oak/0.png", 0, "%"),
    ("studio --port 99999999", 2, "port"),
]


def typed(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of ``bothways LINE``."""
    capsys.readouterr()
    code = run(*shlex.split(line))
    return (code, *capsys.readouterr())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stranger's folder: a network, its weights in two forms and those of another, photos, and a broken picture."""
    folder = tmp_path_factory.mktemp("stranger")
    names: dict[str, Any] = {}
    exec(NET, names)
    build = "\n\ndef {name}():\n    return network(), " + FACTS + "\n"
    code = "import bothways\n" + NET + "\n\ndef module_alone():\n    return network()\n"
    code += build.format(name="build", classes=NAMES) + build.format(name="nine_classes", classes=9)
    (folder / "my.py").write_text(code)
    state = names["network"]().state_dict()
    torch.save(state, folder / "net.pth")
    trained = {key: value + 0.1 if value.is_floating_point() else value for key, value in state.items()}
    save_file(trained, folder / "net.safetensors")
    save_file({"another": torch.zeros(3)}, folder / "other.safetensors")
    (folder / "taken.txt").write_text("mine")
    for name in NAMES:
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(4):
            picture = torch.rand(3, 16, 16, generator=generator(k, purpose=name))
            (folder / "photos" / name / f"{k}.png").write_bytes(to_png(picture))
    (folder / "photos/oak/notes.txt").write_text("mine")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


@pytest.mark.parametrize("part", [FIRST, OWN_MODEL, OWN_DATA, FLOWS], ids=["first", "own model", "own data", "flows"])
@pytest.mark.slow
def test_every_answer_is_a_result_or_one_line_that_names_the_cure(
    part: list[tuple[str, int, str]],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shutil.copytree(place, tmp_path / "here"))
    for line, code, words in part:
        got, out, err = typed(capsys, line)
        assert got == code, f"bothways {line}\n{out}{err}"
        assert "Traceback" not in out + err, f"bothways {line}\n{err}"
        assert words in " ".join((out + err).split()), f"bothways {line}\n{out}{err}"
        if code == 2 and not err.startswith("Usage: "):
            own = [said for said in err.splitlines() if not said.startswith("note: ")]
            assert len(own) == 1, f"bothways {line}\n{err}"
            assert own[0].startswith("bothways: ")
        for said in out.splitlines():  # what it says to type next
            if said.startswith("bothways generate") and "NAME" not in said:
                assert typed(capsys, said.removeprefix("bothways ") + f" {QUICK} --recipe das --dry-run")[0] in (0, 2)
    assert Path("taken.txt").read_text() == "mine"
