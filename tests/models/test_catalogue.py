"""Addresses of models, and weights: what fits is loaded, what does not is refused in one line, no pickle is opened."""

from __future__ import annotations

import json
import pickle
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bothways.models import cards
from bothways.models.addresses import CARD, FINETUNED, FUNCTION, SCHEMES, scheme_of
from bothways.models.cards import bundled_names, card
from bothways.models.catalogue import BUILDERS, build_network, check_device, kept_statistics, kept_with, spec_from
from bothways.models.loader import load_classifier, load_model
from bothways.models.weights import load_weights
from bothways.types import ModelSpec, UserError

SPEC = ModelSpec(8, (0.5,) * 3, (0.25,) * 3, 2)
USER_FILE = """
from dataclasses import dataclass
import torch
from bothways import ModelSpec, UserError

@dataclass
class Facts:
    size: "int" = 8

def spec(classes=2):
    return ModelSpec(size=Facts().size, mean=(0.5,) * 3, std=(0.25,) * 3, classes=classes)

def build():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2)), spec()

def encoder():
    return torch.nn.Flatten(), spec(0)

def bare():
    return build()[0]

def swapped():
    return tuple(reversed(build()))

def typo():
    return undefined_name

def careful():
    raise UserError("weights of mine are missing")

number = 3
"""


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def refused(*arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as error:
        load_model(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return path


def test_a_live_module_needs_its_facts() -> None:
    net, image = network(), torch.rand(2, 3, 8, 8)
    model = load_model(net, SPEC)
    assert (model.outputs(image) - net(4 * (image - 0.5))).abs().max() < 1e-5
    said = refused(network())
    assert "Sequential" in said
    assert "ModelSpec(size=" in said


def test_a_function_in_a_users_file(user_file: Path) -> None:
    model = load_model(f"{user_file}:build")
    assert model.spec.count == 2
    assert model.name == f"{user_file}:build"
    assert load_model(f"{user_file}:encoder").outputs(torch.rand(1, 3, 8, 8)).shape == (1, 192)
    assert load_model(f"{user_file}:build", ModelSpec(8, (0,) * 3, (1,) * 3, ["a", "b"])).spec.class_name(1) == "b"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("biuld", "no function 'biuld'; type build"),
        ("number", "no function 'number'"),
        ("bare", "must return (module, spec)"),
        ("swapped", "must return (module, spec)"),
        ("typo", "NameError"),
        ("careful", "weights of mine are missing"),
        ("spec", "must return (module, spec); state its facts"),
    ],
)
def test_a_function_that_is_no_model(user_file: Path, function: str, said: str) -> None:
    assert said in refused(f"{user_file}:{function}")


def test_files_that_are_no_models(user_file: Path) -> None:
    assert "does not exist" in refused(f"{user_file.parent / 'other.py'}:build")
    assert f"{user_file}:FUNCTION" in refused(str(user_file))
    user_file.write_text("def build(:\n")
    assert "SyntaxError" in refused(f"{user_file}:build")
    user_file.write_text("import no_such_package_of_mine\n")
    assert "ModuleNotFoundError" in refused(f"{user_file}:build")


@pytest.mark.parametrize("address", ["resnet50", "onnx:resnet18", "https://example.org/model", "", "a.py"])
def test_an_unknown_address_says_what_to_type(address: str) -> None:
    assert "PATH.py:FUNCTION" in refused(address) or f"{address}:FUNCTION" in refused(address)


def test_an_unknown_bundled_model_and_network_and_device() -> None:
    assert "no bundled model 'nothing-like-it'" in refused("bundled:nothing-like-it")
    with pytest.raises(UserError, match="type resnet"):
        build_network("resmet")
    with pytest.raises(UserError, match="type --device cpu"):
        check_device("meta:x")
    assert "--device cpu" in refused(network(), SPEC, device="tpu")


def test_weights_are_loaded_in_the_modules_own_precision(tmp_path: Path) -> None:
    source, path = network(), tmp_path / "w.safetensors"
    save_file({key: value.half() for key, value in source.state_dict().items()}, path)
    with pytest.warns(UserWarning, match="2 of 2 tensors are of float16 and become float32"):
        model = load_model(network(), SPEC, weights=path)
    assert model.module[1].weight.dtype == torch.float32
    assert torch.equal(model.module[1].weight, source[1].weight.half().float())


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    path, net = tmp_path / "w.safetensors", network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    cases = {
        "missing in the file: 1.bias": {"1.weight": torch.ones(2, 192)},
        "not in the model: a, b, c)": {**before, **{key: torch.ones(1) for key in "abcd"}},
        "of another shape: 1.weight (3, 192) for (2, 192)": {"1.weight": torch.ones(3, 192), "1.bias": torch.ones(2)},
    }
    for said, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(UserError) as error:
            load_weights(net, path)
        assert said in str(error.value)
        assert str(path) in str(error.value)
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_missing_counter_of_batches_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path, norm = tmp_path / "w.safetensors", nn.BatchNorm2d(3)
    tensors = {key: torch.full_like(value, 2) for key, value in norm.state_dict().items() if "num" not in key}
    save_file(tensors, path)
    load_weights(norm, path)
    assert norm.running_var.tolist() == [2, 2, 2]


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "weights.safetensors"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works
    sprung.unlink()
    for write in (lambda: torch.save({"w": Trap(sprung)}, path), lambda: path.write_bytes(pickle.dumps(Trap(sprung)))):
        write()
        assert "safetensors" in refused(network(), SPEC, weights=path)
        assert not sprung.exists()


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert "do not exist" in refused(network(), SPEC, weights=path)
    for content in (b"", b"hello, I am a text file\n" * 20, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        assert "not a safetensors file" in refused(network(), SPEC, weights=path)
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-8])  # a download that was cut off
    assert "not a safetensors file" in refused(network(), SPEC, weights=path)


def written_card(folder: Path, **facts: object) -> Path:
    net = build_network("plain", classes=2, channels=(8,), depths=(1,))
    path = folder / "small.v2.json"
    spec = {"size": 8, "mean": [0.5] * 3, "std": [0.25] * 3, "classes": ["cat", "dog"], "feature_layer": "pool"}
    network = {"name": "plain", "classes": 2, "channels": [8], "depths": [1]}
    path.write_text(json.dumps({"network": network, "spec": spec, "accuracy": 0.5, **facts}))
    save_file(net.state_dict(), folder / "small.v2.safetensors")
    save_file({"features": torch.ones(2, 8).half()}, folder / "small.v2.statistics.safetensors")
    return path


def test_a_card_brings_network_facts_weights_and_statistics(tmp_path: Path) -> None:
    path = written_card(tmp_path)
    model = load_model(str(path))
    saved = load_file(tmp_path / "small.v2.safetensors")
    assert torch.equal(model.module.head.weight, saved["head.weight"])
    assert model.spec.classes == ("cat", "dog")
    kept = kept_statistics(str(path))
    assert kept["features"].dtype == torch.float32
    assert kept_statistics(str(tmp_path / "mine.py:build")) == {}
    assert kept_with(model).keys() == kept.keys()


def test_statistics_of_a_card_are_not_those_of_other_weights_or_facts(tmp_path: Path) -> None:
    path, weights = str(written_card(tmp_path)), tmp_path / "small.v2.safetensors"
    other = {key: value + 1 for key, value in load_file(weights).items()}
    save_file(other, tmp_path / "other.safetensors")
    assert kept_with(load_model(path, weights=weights))
    assert kept_with(load_model(path, weights=tmp_path / "other.safetensors")) == {}
    own = load_model(path).spec
    assert kept_with(load_model(path, replace(own, mean=(0.25,) * 3))) == {}
    assert kept_with(load_model(path, replace(own, classes=("dog", "cat"))))


def test_a_card_that_cannot_be_used(tmp_path: Path) -> None:
    assert "does not exist" in refused(str(tmp_path / "none.json"))
    for facts, says in (
        ({"network": {"name": "plian"}}, "no network 'plian'; type plain"),
        ({"network": {"name": "plain", "colour": 3}}, "colour"),
        ({"spec": {"size": 8}}, "mean"),
    ):
        said = refused(str(path := written_card(tmp_path, **facts)))
        assert path.name in said
        assert says in said
    path = written_card(tmp_path)
    path.write_text("{")
    assert f"{path.name}: not JSON" in refused(str(path))
    path = written_card(tmp_path)
    path.with_name("small.v2.safetensors").unlink()
    assert "do not exist" in refused(str(path))


def test_a_card_holds_the_fields_of_a_model_spec_and_their_defaults() -> None:
    of_spec = {one.name: None if one.default is MISSING else one.default for one in fields(ModelSpec)}
    of_card = {name: None if one.is_required() else one.default for name, one in cards.Facts.model_fields.items()}
    assert of_card == of_spec


def test_every_builder_gives_its_classes() -> None:
    small = {
        "resnet": {"channels": (4, 4), "blocks": (0, 1)},
        "plain": {"channels": (8, 8), "depths": (1, 1)},
        "attention": {"size": 8, "width": 8, "depth": 1, "heads": 2, "stem": 4},
    }
    assert {*small, "unet", "points", "sit"} == set(BUILDERS)  # those three give a velocity
    for name, options in small.items():
        assert build_network(name, classes=3, **options).eval()(torch.rand(2, 3, 8, 8)).shape == (2, 3)


def test_each_bundled_model_is_what_its_card_says() -> None:
    if not bundled_names():
        pytest.skip("no bundled models in this copy")
    for name in bundled_names():
        facts, model = card(name), load_model(f"bundled:{name}")
        assert spec_from(facts["spec"]) == model.spec
        assert facts["parameters"] == sum(p.numel() for p in model.module.parameters())
        low, high = facts["accuracy_interval"]
        assert low < facts["accuracy"] < high
        assert facts["licence" if "licence" in facts else "limits"]
        assert kept_statistics(f"bundled:{name}")["features"].ndim == 2
        image = torch.rand(2, 3, model.spec.height, model.spec.width)
        assert torch.isfinite(model.outputs(image)).all()
    near = bundled_names()[0]
    assert f"type bundled:{near}" in refused(f"bundled:{near[:-1]}")
    assert f"bundled:{near}" in refused(f"bundeld:{near}")


def test_a_flow_made_a_classifier_is_read_by_its_address_like_any_other() -> None:
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        found, wanted = (load("bundled:cifar10-prg").outputs(image) for load in (load_model, load_classifier))
    assert torch.equal(found, wanted)
    assert "leave spec= and weights= out" in refused("bundled:cifar10-prg", SPEC)
    assert "leave spec= and weights= out" in refused("bundled:cifar10-prg", weights="w.safetensors")


def test_every_kind_of_address_has_a_reader() -> None:
    assert all(row.model or row.flow for row in SCHEMES.values())
    assert scheme_of("bundled:cifar10-prg")[0] == FINETUNED
    assert scheme_of("timm:resnet18") == ("timm", "resnet18")
    assert scheme_of("a.py:build")[0] == scheme_of("a.py")[0] == FUNCTION
    assert scheme_of("a/b.json")[0] == CARD
    assert scheme_of("resnet50")[0] == ""
