"""What is missing, wrong or unsafe behind an address is said in one line; no pickle and no code of others runs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import ModelSpec, UserError, load_model
from bothways.cli import main
from bothways.models.libraries import hub, known
from bothways.models.libraries.known import LIBRARIES
from bothways.numerics import modules
from zoo import MEAN, NAMES, SIZE, STD, need

Zoo = Callable[[str], str]


def refused(address: str, spec: ModelSpec | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_model(address, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def vit(zoo: Zoo, tmp_path: Path) -> Path:
    """A folder that a test may spoil."""
    return Path(shutil.copytree(zoo("vit").removeprefix("hf:"), tmp_path / "vit"))


def rewritten(folder: Path, file: str, **changes: Any) -> None:
    facts = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))


# ---- libraries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", list(LIBRARIES))
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    package, extra = LIBRARIES[scheme].package, LIBRARIES[scheme].extra
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(LIBRARIES[scheme].example)
    expected = f'the model\'s address needs {package}, which is not installed; type pip install "bothways[{extra}]"'
    assert said == expected
    with pytest.raises(SystemExit) as end:
        main(["generate", LIBRARIES[scheme].example, "--class", "0"])
    assert end.value.code == 2
    assert capsys.readouterr().err.strip() == f"bothways: {said}"


@pytest.mark.parametrize("scheme", ["timm", "hf", "open_clip"])
def test_a_torchvision_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    need("timm")  # it brings torchvision

    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(hub, "import_module", broken)
    monkeypatch.setattr(modules, "import_module", broken)
    said = refused(LIBRARIES[scheme].example)
    assert re.match(r"torchvision [\d.]+\S* does not fit torch [\d.]+\S* \(operator torchvision::nms", said)
    assert "pip install --force-reinstall torch torchvision" in said


def test_a_library_that_fails_inside_is_judged_by_its_torchvision(monkeypatch: pytest.MonkeyPatch, zoo: Zoo) -> None:
    """transformers imports its models when they are asked for."""
    transformers, address, imported = need("vit"), zoo("vit"), hub.import_module

    def broken(name: str) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return imported(name)

    def fails(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("Could not import module 'ViTForImageClassification'")

    monkeypatch.setattr(transformers.ViTForImageClassification, "from_pretrained", fails)
    monkeypatch.setattr(modules, "import_module", broken)
    assert "does not fit torch" in refused(address)


def test_the_kinds_are_listed_with_what_they_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = known.find_spec
    monkeypatch.setattr(known, "find_spec", lambda name: None if name == "open_clip" else found(name))
    with pytest.raises(SystemExit):
        main(["models"])
    lines = capsys.readouterr().out.splitlines()
    for kind in LIBRARIES.values():
        (line,) = [line for line in lines if f" {kind.example} " in line]
        assert (kind.install in line) == (kind.package == "open_clip" or found(kind.package) is None)
    assert any("PATH.py:FUNCTION" in line for line in lines)


# ---- names and files -----------------------------------------------------------------------------------------------


def test_a_repository_that_is_not_at_hand_says_which_file_where_and_what_to_type() -> None:
    need("vit")
    from huggingface_hub.constants import HF_HUB_CACHE

    said = refused("hf:nobody/nothing")
    for part in ("config.json of 'nobody/nothing'", HF_HUB_CACHE, "type hf download nobody/nothing", "hf:FOLDER"):
        assert part in said
    assert "openai/clip-vit-base-patch32" in refused("clip:ViT-B/32")


def test_so_do_the_other_libraries() -> None:
    need("timm")
    assert "model.safetensors of 'timm/resnet18.a1_in1k'" in refused("timm:resnet18")
    assert "type hf download nobody/nothing" in refused("timm:nobody/nothing")
    need("open_clip")
    assert "hf download laion/CLIP-ViT-B-32" in refused("open_clip:ViT-B-32/laion2b_s34b_b79k")


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("hf:", "has no name after the colon"),
        ("hf:./nowhere", "folder './nowhere' does not exist"),
        ("timm:resnot18", "resnet18"),
        ("timm:resnet18.a1_in2k", "resnet18.a1_in1k"),
        ("timm:~nowhere/x", "does not exist"),
        ("open_clip:ViT-B-31/openai", "ViT-B-32"),
        ("open_clip:ViT-B-32/laion2b_s34b", "laion2b_s34b_b79k"),
        ("clip:ViT-B-32", "ViT-B/32"),
    ],
)
def test_a_mistyped_name_says_what_is_near(address: str, hint: str) -> None:
    need(address.partition(":")[0])
    assert hint in refused(address)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named_with_its_folder(vit: Path, file: str) -> None:
    (vit / file).unlink()
    said = refused(f"hf:{vit}")
    assert f"no {file} in" in said
    assert str(vit) in said


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_spoilt_file_is_named(vit: Path, file: str) -> None:
    (vit / file).write_bytes(b"\xff{ no json")
    assert file in refused(f"hf:{vit}")


def test_without_a_preprocessor_the_facts_are_asked_for_and_taken(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    assert "ModelSpec(size=224" in refused(f"hf:{vit}")
    spec = ModelSpec(SIZE, MEAN, STD, NAMES)
    assert load_model(f"hf:{vit}", spec).spec == spec


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"image_mean": None}, "no image_mean"),
        ({"image_std": None}, "no image_std"),
        ({"size": None}, "no size"),
        ({"size": {"longest_edge": 32}}, "no size"),
        ({"rescale_offset": True}, "rescale_offset"),
    ],
)
def test_a_fact_that_is_not_stated_is_not_guessed(vit: Path, changes: dict[str, Any], hint: str) -> None:
    rewritten(vit, "preprocessor_config.json", **changes)
    said = refused(f"hf:{vit}")
    assert hint in said
    assert "ModelSpec(" in said


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"num_hidden_layers": 3}, "vit.layers.2"),
        ({"id2label": {str(i): str(i) for i in range(7)}, "label2id": None}, "classifier.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(vit: Path, changes: dict[str, Any], lacking: str) -> None:
    """The library would draw at random what is not there."""
    rewritten(vit, "config.json", **changes)
    said = refused(f"hf:{vit}")
    assert f": {lacking}" in said
    assert "missing in the weights or of another shape" in said


def test_a_model_of_two_towers_without_an_image_tower_of_that_name_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    transformers = need("clip")
    folder = Path(shutil.copytree(zoo("clip").removeprefix("clip:"), tmp_path / "clip"))

    class NoTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_model = torch.nn.Linear(1, 1)

    report: dict[str, list[str]] = {"missing_keys": [], "mismatched_keys": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.CLIPModel, "from_pretrained", lambda *_, **__: (NoTower(), report))
        assert "wrap it in a module of your own" in refused(f"hf:{folder}")


def test_a_forward_that_wants_more_than_a_picture_is_refused() -> None:
    class Wants(torch.nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(UserError, match=r"missing 1 required positional argument: 'mask'"):
        load_model(Wants(), ModelSpec(SIZE, MEAN, STD, 0))


@pytest.mark.parametrize("architecture", ["ViTForMaskedImageModeling", "BertModel", "NoSuchModel", "cached_file"])
def test_an_architecture_of_another_kind_is_refused(vit: Path, architecture: str) -> None:
    rewritten(vit, "config.json", architectures=[architecture])
    said = refused(f"hf:{vit}")
    assert architecture in said
    assert "PATH.py:FUNCTION" in said


def test_a_file_of_open_clip_weights_states_no_facts(zoo: Zoo, tmp_path: Path) -> None:
    library = need("open_clip")
    folder = Path(zoo("open_clip").removeprefix("open_clip:"))
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "toy-arch.json").write_text(json.dumps(config))
    library.add_model_config(tmp_path / "toy-arch.json")
    address = f"open_clip:toy-arch/{folder / 'open_clip_model.safetensors'}"
    assert "has no mean and std" in refused(address)
    model, whole = load_model(address, ModelSpec(SIZE, MEAN, STD, 0)), load_model(zoo("open_clip"))
    image = torch.rand(1, 3, SIZE, SIZE)
    assert (model.outputs(image) - whole.outputs(image)).abs().max() < 1e-6


# ---- nothing of others runs ----------------------------------------------------------------------------------------


class _Trap:
    """What a malicious pickle holds: a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_in_place_of_weights_is_not_run(vit: Path, zoo: Zoo, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    places = [(vit, "model.safetensors", "pytorch_model.bin", "hf")]
    for kind, weights in (("timm", "model.safetensors"), ("open_clip", "open_clip_model.safetensors")):
        folder = Path(shutil.copytree(zoo(kind).rpartition(":")[2], tmp_path / kind))
        names = {"timm": "pytorch_model.bin", "open_clip": "open_clip_pytorch_model.bin"}
        places.append((folder, weights, names[kind], kind))
    for folder, weights, pickled, scheme in places:
        (folder / weights).unlink()
        torch.save({"trap": _Trap(mark)}, folder / pickled)
        assert refused(f"{scheme}:{folder}")
    assert not mark.exists()
    torch.load(vit / "pytorch_model.bin", weights_only=False)  # the trap is a real one
    assert mark.exists()


def test_code_in_a_repository_is_not_run(vit: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (vit / "modeling_own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Own: ...\n")
    rewritten(vit, "config.json", auto_map={"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"})
    load_model(f"hf:{vit}")  # by what the library itself holds
    rewritten(vit, "config.json", model_type="own", architectures=["Own"])
    assert refused(f"hf:{vit}")
    assert not mark.exists()
