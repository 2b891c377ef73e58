"""Export: what is written loads without the package and computes what the run does, for every form and feature."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import bothways
from bothways import RunError, load_classifier, load_flow
from bothways.data.sources import ImageSet
from bothways.numerics.draws import generator
from bothways.numerics.solvers import fixed_names
from bothways.representation.features import Features, features
from bothways.tasks.export import run as export_run
from bothways.tasks.export.source import readme_text
from command import refused, run
from small_flow import write_small_flow

ALONE = """
import sys
sys.modules["bothways"] = None  # whoever imports it fails
sys.path.insert(0, sys.argv[1])
import torch
from model import load
images = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(load()(images), sys.argv[3])
"""


def pictures(count: int = 5) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator(9, purpose="pictures"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_small_flow(folder / "flow")
    return folder


def made(place: Path, name: str, **others: Any) -> Path:
    """A run of two steps, once for each name."""
    if not (place / name).exists():
        data = ImageSet((255 * pictures(24)).byte(), torch.arange(24) % 3, ("a", "b", "c"))
        chosen = {"validation": 4, "batch": 6, "train_steps": 2, "average": 0.0, "rate": 0.01, **others}
        bothways.finetune(place / "flow", data, workers=0, out=place / name, **chosen)
    return place / name


def wanted(run: Path) -> Tensor:
    with torch.no_grad():
        return load_classifier(run).outputs(pictures())


RUNS: dict[str, dict[str, Any]] = {
    "walked": {"kind": "walked", "steps": 3, "depth": 0.4},
    "midpoint": {"kind": "walked", "steps": 2, "solver": "midpoint", "head": "linear"},
    "rk4": {"kind": "walked", "steps": 1, "solver": "rk4"},
    "activations": {"kind": "activations", "noised": True},
    "both": {"kind": "both", "steps": 2, "solver": "heun", "layer": "network.down.0"},
    "pixels": {"kind": "pixels"},
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_the_module_stands_alone(place: Path, tmp_path: Path, name: str) -> None:
    source, out = made(place, name, **RUNS[name]), tmp_path / "out"
    done = bothways.export(source, to="module", out=out)
    assert sorted(done.files) == sorted(path.name for path in out.iterdir())
    assert set(done.files) == {"config.json", "model.safetensors", "model.py"}
    assert done.apart < 1e-5
    assert "bothways" not in [line for line in (out / "model.py").read_text().splitlines() if "import" in line]
    torch.save(pictures(), tmp_path / "images.pt")
    files = [str(path) for path in (out, tmp_path / "images.pt", tmp_path / "found.pt")]
    strict = [sys.executable, "-I", "-X", "warn_default_encoding", "-c", ALONE]
    done_alone = subprocess.run([*strict, *files], check=True, capture_output=True)
    assert b"model.py" not in done_alone.stderr  # it reads names in UTF-8, whatever the machine's encoding
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert (found - wanted(source)).abs().max() < 1e-5
    facts = json.loads((out / "config.json").read_text())
    assert (facts["size"], facts["classes"], facts["outputs"]) == ([8, 8], ["a", "b", "c"], 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's exporter; a user sees no note of it
@pytest.mark.slow
def test_torch_export_takes_any_batch(place: Path, tmp_path: Path) -> None:
    source = made(place, "near both", kind="both", steps=1, layer="network.down.0")
    bothways.export(source, to="torch-export", out=tmp_path / "out")
    loaded = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 5):
        with torch.no_grad():
            assert (loaded(pictures()[:count]) - wanted(source)[:count]).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore")  # of torch's exporter and of onnxscript
@pytest.mark.slow
def test_onnx_computes_the_same_in_onnxruntime(place: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    source = made(place, "two steps", kind="walked", steps=2, depth=0.4)
    done = bothways.export(source, to="onnx", out=tmp_path / "out")
    assert done.onnxruntime is not None
    assert done.onnxruntime < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.shape[0] for one in (*session.get_inputs(), *session.get_outputs())] == ["batch", "batch"]
    for count in (1, 5):
        (found,) = session.run(None, {"images": pictures()[:count].numpy()})
        assert (torch.from_numpy(found) - wanted(source)[:count]).abs().max() < 1e-5


@pytest.mark.parametrize("solver", fixed_names())
def test_every_solver_is_unrolled_as_it_walks(place: Path, tmp_path: Path, solver: str) -> None:
    """Weights and facts alone are compared by the export itself; the features are those of the package."""
    done = bothways.export(place / "flow", to="safetensors+json", solver=solver, steps=3, out=tmp_path / "out")
    assert done.apart < 1e-5
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (facts["solver"], len(facts["times"]), facts["outputs"]) == (solver, 4, 192)
    kept, flow = load_file(tmp_path / "out" / "model.safetensors"), load_flow(place / "flow")
    assert all(torch.equal(value, kept[f"network.{name}"]) for name, value in flow.network.state_dict().items())


def test_a_flow_gives_features_and_so_does_a_classifier(place: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path / "out"))
    try:
        bothways.export(place / "flow", to="hub-folder", kind="activations", depth=0.2, out=tmp_path / "out")
        from model import load

        flow = load_flow(place / "flow")
        how = Features("activations", layers=("network.middle",), activation_depth=0.2)
        with torch.no_grad():
            seen = features(flow, flow.path, flow.code(pictures()), how)
            assert (load()(pictures()) - seen).abs().max() < 1e-6
    finally:
        sys.path.remove(str(tmp_path / "out"))
        sys.modules.pop("model", None)
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlibrary_name: pytorch\n")
    source = made(place, "walked", **RUNS["walked"])
    done = bothways.export(source, to="safetensors+json", output="features", out=tmp_path / "features")
    assert not [key for key in load_file(done.folder / "model.safetensors") if key.startswith("head.")]
    assert json.loads((done.folder / "config.json").read_text())["outputs"] == 192


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("class", ["pipeline_tag: image-classification", "(B,2) logits\n", 'Classes, in order: "größe", "rot".']),
        ("multi-label", ["(B,2) logits, whose sigmoid is the probability of each label", 'Labels, in order: "größe"']),
        ("regression", ["pipeline_tag: other", "tells numbers of pictures", "(B,2) numbers", "Numbers, in order: "]),
    ],
)
def test_the_readme_says_what_is_predicted(target: str, says: list[str]) -> None:
    facts = {"size": [8, 8], "outputs": 2, "head": "prg", "target": target, "classes": ["größe", "rot"]}
    text = readme_text({**facts, "interpolation": "bicubic"}, "run")
    assert [line for line in says if line not in text] == []


def test_what_cannot_be_is_one_line(place: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\nfrom bothways import ModelSpec\n"
        "class Net(torch.nn.Module):\n    def forward(self, x, t):\n        return x * t.view(-1, 1, 1, 1)\n"
        "def build():\n    return Net(), ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path='linear')\n"
    )
    flow = str(place / "flow")
    for arguments, says in (
        ([flow, "--output", "logits"], "type --output features"),
        ([flow, "--out", str(tmp_path / "full")], "no export of bothways"),
        ([flow, "--out", str(own)], "is a file"),
        ([f"{own}:build"], "not a U-Net of bothways; type --to onnx"),
        ([flow, "--solver", "ab2"], "type --to onnx"),
        ([flow, "--solver", "dopri5"], "type one with fixed steps"),
        ([str(made(place, "own steps", solver="dopri5", gradient="direct"))], "walks by dopri5, in steps of its own"),
        ([flow, "--to", "pickle"], "'module', 'safetensors+json'"),
        (["bundled:cifar10-resnet"], "load_model"),
    ):
        place_of = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
        assert says in refused(capsys, "export", *arguments, *place_of), arguments
    assert not (tmp_path / "out").exists()
    assert run("export", flow, "--to", "safetensors+json", "--out", str(tmp_path / "out")) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert "type --overwrite" in refused(capsys, "export", flow, "--out", str(tmp_path / "out"))
    assert run("export", flow, "--to", "safetensors+json", "--out", str(tmp_path / "out"), "--overwrite") == 0


def test_an_export_that_is_cut_off_is_never_the_old_weights_with_new_facts(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of another form go too; and what a kill leaves before the first file is no folder of someone else."""
    flow, out = str(place / "flow"), tmp_path / "out"
    out.mkdir()
    (out / ".config.json.partial").write_text("{")
    assert run("export", flow, "--to", "hub-folder", "--out", str(out)) == 0
    (out / "notes.txt").write_text("mine")
    plain = export_run.write_file

    def cut(path: Path, content: bytes) -> None:
        if path.name != "config.json":
            raise RunError(f"{path}: no space left on device")
        plain(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(export_run, "write_file", cut)
        assert run("export", flow, "--to", "hub-folder", "--steps", "7", "--out", str(out), "--overwrite") == 1
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "notes.txt"]
    assert run("export", flow, "--to", "safetensors+json", "--out", str(out), "--overwrite") == 0
    assert sorted(file.name for file in out.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]
