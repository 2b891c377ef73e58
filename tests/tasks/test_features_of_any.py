"""Features of any network by one call: without a stated layer, without a head, and of several layers at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec, UserError, generate, invert, load_images, load_model, statistics
from bothways.models.adapter import Adapter
from bothways.models.catalogue import read_statistics
from bothways.numerics.draws import Draws, picture_seed
from bothways.synthesis.density import Density, drawn_pair
from bothways.synthesis.sampling import fit_space
from bothways.tasks.generate.priors import find_space
from bothways.tasks.shelf import work_of
from bothways.tasks.statistics.files import features_mean, read_space
from command import refused as refused_command
from command import run
from zoo import SIZE

PICTURE = {"size": 16, "mean": (0.5, 0.45, 0.4), "std": (0.25, 0.3, 0.2)}
QUICK = {"steps": 2, "judges": []}
STILL = {"sampling.share": 1.0, "sampling.width": 0.0}
PHOTOGRAPHS = "sampled-photographs"
HALF = 2.0**-11  # the relative error of half precision


class Maps(nn.Module):
    """A map of 6 channels, whose last step is a function of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x))))


class Tokens(nn.Module):
    """A token of the whole picture, then 4 of its parts, 8 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.own = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.block, self.norm = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.patch(x).flatten(2).transpose(1, 2)
        return self.norm(self.block(torch.cat([self.own.expand(len(x), -1, -1), parts], 1)))


class Classifier(nn.Module):
    """Without normalisation; its head is a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Maps(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Headless(Classifier):
    """Its classes are told by distances, which no linear map gives."""

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.body(x).mean((2, 3)), self.head.weight)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.ParameterDict({"weight": torch.randn(5, 6)})


def built(kind: Callable[[], nn.Module], classes: int = 0, **facts) -> Adapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Adapter(kind().eval(), ModelSpec(**{**PICTURE, **facts}, classes=classes), name=kind.__name__.lower())


@pytest.fixture(scope="module")
def data(soft_pictures: Callable[[int], Path]) -> Path:
    return soft_pictures(12)


@pytest.fixture(scope="module")
def seen(data: Path) -> Tensor:
    """The pictures as every network of this file sees them."""
    images = load_images(data).images.float() / 255
    mean, std = (torch.tensor(PICTURE[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- which layer it is ---------------------------------------------------------------------------------------------


def by_hand(module, seen: Tensor) -> Tensor:
    with torch.no_grad():
        value = module(seen)
    return value.mean((2, 3)) if value.ndim == 4 else value.mean(1) if value.ndim == 3 else value


@pytest.mark.parametrize(
    ("kind", "classes", "layer", "wanted"),
    [
        (Maps, 0, ":output", lambda net, x: by_hand(net, x)),
        (Tokens, 0, ":output", lambda net, x: by_hand(net, x)),
        (Classifier, 5, "head:input", lambda net, x: by_hand(net.body, x)),
        (Headless, 5, "outputs", lambda net, x: by_hand(net, x)),
    ],
)
def test_the_feature_of_a_network_that_states_none(kind, classes, layer, wanted, data, seen, tmp_path) -> None:
    model, out = built(kind, classes), tmp_path / "kept.safetensors"
    found = statistics(model, data, out=out).tensors[f"rows/{layer}"]
    rows = wanted(model.module, seen)
    assert found.shape == rows.shape
    assert (found.float() - rows).abs().max() <= 2 * HALF * rows.abs().max()
    for source in (data, out):
        drawing = work_of("generate", model, None, recipe=PHOTOGRAPHS, n=2, data=source, **QUICK, **STILL)
        target = bound(drawing, 2)[layer]
        assert (target[:, None] - rows).norm(dim=2).min(1).values.max() < 4 * HALF * rows.abs().max() * rows.shape[1]
        result = generate(model, None, 2, PHOTOGRAPHS, data=source, **QUICK)
        assert result.images.shape == (2, 3, 16, 16)
        assert len(result.measures["pictures"]) == 2
    photo = load_images(data).images[:1].float() / 255
    assert len(invert(model, photo, recipe="from-features", data=out, **QUICK)) == 1
    mean = features_mean(model, out)
    assert mean is not None
    assert (mean - rows.mean(0)).abs().max() < 4 * HALF * rows.abs().max()


def bound(drawing, n: int) -> dict[str, Tensor]:
    """{layer: (n,d)}: the targets that are drawn for n pictures."""
    seeds = [picture_seed(0, i) for i in range(n)]
    found = drawing.setup._bindings(drawing.request, drawing.request.batch(range(n), seeds), Draws(seeds))["score"][0]
    return {name.removeprefix("0/features/"): v for name, v in found.targets.items() if "/features/" in name}


def test_the_class_of_an_encoder_is_none_of_its_numbers(data: Path) -> None:
    flat = built(lambda: nn.Sequential(Maps(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), feature_layer="outputs")
    drawing = work_of("generate", flat, None, recipe="sampled", n=2, data=data, **QUICK)
    seeds = [1, 2]
    terms = drawing.setup._terms(
        drawing.setup._bindings(drawing.request, drawing.request.batch([0, 1], seeds), Draws(seeds))
    )
    assert "features" in {term.name for term in terms}
    assert not any("class" in term.name or "log" in term.name for term in terms)


def test_the_first_token_is_a_layer_of_its_own(data: Path, seen: Tensor) -> None:
    model = built(Tokens)
    found = statistics(model, data, features=["norm:first", "block"]).tensors
    with torch.no_grad():
        tokens = model.module(seen)
    assert (found["rows/norm:first"].float() - tokens[:, 0]).abs().max() <= 2 * HALF * tokens.abs().max()
    assert found["rows/block"].shape == (12, 8)
    assert (
        len(generate(model, None, 1, PHOTOGRAPHS, data=data, **QUICK, **{"terms.features.layers": "norm:first"})) == 1
    )
    drawn = invert(
        model, load_images(data).images[:1].float() / 255, **QUICK, **{"terms.embedding.layer": "norm:first"}
    )
    assert len(drawn) == 1
    assert len(generate(model, layer="norm:first", channels=[3], n=1, **QUICK)) == 1
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels, layers = torch.tensor([0, 7]), ["norm:first", "norm"]
    parts = model.contributions(image, layers, labels)
    assert (parts["norm:first"] - parts["norm"][:, 0]).abs().max() < 1e-7  # what goes on is the same


# ---- several layers ------------------------------------------------------------------------------------------------


def test_the_drawn_features_are_of_the_same_photographs_at_all_layers(data: Path, tmp_path: Path) -> None:
    model, out, layers = built(Maps), tmp_path / "kept.safetensors", ["first", "second", ":output"]
    statistics(model, data, features=layers, out=out)
    space = read_space(read_statistics(out))
    assert space is not None
    assert space.names == tuple(f"{i:02}.png" for i in range(12))
    whole = fit_space({name: [rows.float()] for name, rows in space.rows.items()}, 8, keep=12).rows
    for settings in (STILL, {"sampling.share": 0.5, "sampling.width": 0.0}):
        drawing = work_of("generate", model, None, recipe=PHOTOGRAPHS, n=6, data=out, **QUICK, **settings)
        targets = bound(drawing, 6)
        assert list(targets) == sorted(layers)
        rows = {layer: whole[f"0/features/{layer}"].double().numpy() for layer in layers}
        pair = drawn_pair(
            space.rows, Draws([picture_seed(0, i) for i in range(6)]), Density(share=settings["sampling.share"])
        )
        for k in range(6):
            own, other, share = pair.own[k], pair.other[k], pair.share[k].item()
            for layer in layers:
                wanted = share * rows[layer][own] + (1 - share) * rows[layer][other]
                assert np.abs(targets[layer][k].double().numpy() - wanted).max() < 1e-5
    result = generate(model, None, 3, PHOTOGRAPHS, data=out, **QUICK)
    assert all(len(record["drawn_from"]) == 2 for record in result.measures["pictures"])


def test_the_terms_of_several_layers_and_their_gradient_in_float64(data: Path) -> None:
    model = Adapter(built(Maps).module.double(), ModelSpec(**PICTURE, classes=0), name="maps")
    named = {"terms.features.layers": ["second", "first"], "terms.features.weights": [3.0, 1.0]}
    drawing = work_of("generate", model, None, recipe=PHOTOGRAPHS, n=2, data=data, **QUICK, **named)
    seeds = [picture_seed(0, i) for i in range(2)]
    batch = drawing.request.batch(range(2), seeds)
    binding = drawing.setup._bindings(drawing.request, batch, Draws(seeds))["score"][0]
    (part,) = [p for _, p in drawing.setup.objective.parts if type(p).__name__ == "SampledFeatures"]
    terms = part.terms(binding)
    assert [(term.layers, term.weight, term.name) for term in terms] == [
        (("second",), 0.75, "features of second"), (("first",), 0.25, "features of first"),
    ]  # fmt: skip
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    value = sum(term(image) for term in terms)
    ours = torch.autograd.grad(value.sum(), image)[0]

    net, space = model.module, binding.priors.space
    mean, std = (torch.tensor(PICTURE[name], dtype=torch.float64).view(3, 1, 1) for name in ("mean", "std"))
    first = net.first((image - mean) / std)
    maps = {"first": first, "second": net.second(torch.tanh(first))}
    wanted = torch.zeros(2, dtype=torch.float64)
    for layer, weight in (("second", 0.75), ("first", 0.25)):
        centre = space.parts[f"0/features/{layer}"].mean
        one, two = maps[layer].mean((2, 3)) - centre, binding.targets[f"0/features/{layer}"] - centre
        wanted = wanted + weight * (one * two).sum(1) / (one.square().sum(1) * two.square().sum(1)).sqrt()
    theirs = torch.autograd.grad(wanted.sum(), image)[0]
    assert (value - wanted).abs().max() < 1e-12
    assert (ours - theirs).abs().max() < 1e-12
    assert theirs.abs().max() > 1e-3


def test_named_layers_are_taken_out_of_a_file(data: Path, tmp_path: Path) -> None:
    model, out = built(Classifier, 5), tmp_path / "kept.safetensors"
    statistics(model, data, features=["body.first", "body", "head:input"], out=out)
    whole = read_space(read_statistics(out))
    assert whole is not None
    some = find_space([model], out, ["body"])
    assert [name for name in some.parts if "/features/" in name] == ["0/features/body", "0/features/outputs"]
    assert list(some.rows) == ["0/features/body"]
    keep = torch.cat([torch.full((len(p.mean),), name in some.parts) for name, p in whole.parts.items()])
    assert torch.equal(some.factor, whole.factor[:, keep])
    assert 0 < int(keep.sum()) < len(keep)
    alone = generate(model, None, 2, PHOTOGRAPHS, data=out, **QUICK, **{"terms.features.layers": ["body"]})
    assert len(alone.measures["pictures"]) == 2
    one, all_of_it = (find_space([model], out, named) for named in (["body"], []))
    assert len(all_of_it.rows) == 3
    assert len(one.sample(Draws([3]), density=Density())) < len(all_of_it.sample(Draws([3]), density=Density()))


def test_one_layer_has_the_weight_that_several_share(data: Path) -> None:
    model = built(Maps)
    for layers in ("second", ["second", "first", ":output"]):
        drawing = work_of(
            "generate", model, None, recipe=PHOTOGRAPHS, n=1, data=data, **{"terms.features.layers": layers}
        )
        binding = drawing.setup._bindings(drawing.request, drawing.request.batch([0], [0]), Draws([0]))["score"][0]
        terms = [
            t
            for w, p in drawing.setup.objective.parts
            if type(p).__name__ == "SampledFeatures"
            for t in p.terms(binding)
        ]
        assert sum(term.weight for term in terms) == pytest.approx(1)


# ---- mistakes ------------------------------------------------------------------------------------------------------


def test_mistakes_say_what_to_type(data: Path, tmp_path: Path) -> None:
    model, out = built(Maps), tmp_path / "kept.safetensors"
    statistics(model, data, features=["second"], out=out)
    own = {"data": out, **QUICK}
    told = refused(generate, model, None, 1, PHOTOGRAPHS, **own, **{"terms.features.layers": ["second", "first"]})
    assert "no features of layer 'first'" in told
    assert "bothways statistics maps --features second first" in told
    told = refused(generate, model, None, 1, PHOTOGRAPHS, data=data, **QUICK, **{"terms.features.layers": "thrid"})
    assert "no layer 'thrid'" in told
    assert "bothways layers maps" in told
    assert "leave :first out" in refused(statistics, model, data, features=["second:first"])
    wrong = {"terms.features.layers": ["second"], "terms.features.weights": [1.0, 2.0]}
    assert "2 numbers" in refused(generate, model, None, 1, PHOTOGRAPHS, **own, **wrong)
    wrong = {"terms.features.layers": ["second"], "terms.features.weights": [0.0]}
    assert "not all of them 0" in refused(generate, model, None, 1, PHOTOGRAPHS, **own, **wrong)
    wrong = {"terms.features.layers": ["second", "second"], "terms.features.weights": [1.0, 2.0]}
    assert "2 numbers, of sum 3, for 1 named" in refused(generate, model, None, 1, PHOTOGRAPHS, **own, **wrong)
    two = {"terms.more.kind": "features", "terms.more.layers": ["first"]}
    assert "terms.NAME.layers for each" in refused(generate, model, None, 1, PHOTOGRAPHS, data=data, **QUICK, **two)
    assert "for 0 named layers" in refused(
        generate, model, None, 1, PHOTOGRAPHS, **own, **{"terms.features.weights": [1.0]}
    )
    assert "--data FOLDER_OR_PARQUET" in refused(generate, model, None, 1, PHOTOGRAPHS, **QUICK)
    head = {"terms.features.layers": "body.first", "terms.statistics.weight": 0.0}
    with pytest.warns(UserWarning, match="rows of its head are sampled"):
        told = refused(generate, built(Classifier, 5), None, 1, PHOTOGRAPHS, **QUICK, **head)
    assert "no features of layer 'body.first'" in told
    assert "'head:input' are" in told


def test_statistics_without_features_are_not_drawn_from(data: Path) -> None:
    drawing = work_of("generate", built(Maps), None, recipe=PHOTOGRAPHS, n=1, data=data, **QUICK)
    to = drawing.setup._bindings(drawing.request, drawing.request.batch([0], [0]), Draws([0]))["score"][0]
    space = to.priors.space
    none = replace(space, parts={name: part for name, part in space.parts.items() if "/features/" not in name}, rows={})
    (part,) = [p for _, p in drawing.setup.objective.parts if type(p).__name__ == "SampledFeatures"]
    told = refused(part.terms, replace(to, priors=replace(to.priors, space=none)))
    assert "hold no features" in told
    assert "bothways statistics maps" in told


class Windows(nn.Module):
    """Two rows a picture leave its first part."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.last = nn.Conv2d(3, 4, 4, 4), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        rows = self.last(self.part(x).flatten(2).transpose(1, 2).reshape(2 * len(x), 8, 4))
        return rows.mean(1).view(len(x), 8)


def test_a_layer_of_several_rows_a_picture_is_refused(data: Path) -> None:
    told = refused(statistics, built(Windows), data, features=["last"])
    assert "layer 'last' gives (4, 8, 4) for two pictures" in told
    assert "--features NAME" in told


# ---- the commands --------------------------------------------------------------------------------------------------


MINE = f"""
import torch
from torch import nn
from bothways import ModelSpec

def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh(), nn.Conv2d(4, 6, 3, 2, 1))
    return module, ModelSpec(**{PICTURE}, classes=0)
"""


def test_the_commands_take_layers_by_name(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    assert run("statistics", "mine.py:build", "--data", data, "--features", "0", "2", "--out", "kept.safetensors") == 0
    assert {"rows/0", "rows/2"} < load_file("kept.safetensors").keys()
    capsys.readouterr()
    assert run("layers", "mine.py:build") == 0
    assert "\nfeatures: :output\n" in capsys.readouterr().out
    drawn = ("generate", "mine.py:build", "--unconditional", "--n", 1, "--recipe", PHOTOGRAPHS, "--steps", 2)
    assert (
        run(*drawn, "--data", "kept.safetensors", "--set", "terms.features.layers=0,2", "terms.features.weights=1,2")
        == 0
    )
    assert run(*drawn, "--data", data, "--set", "terms.features.layers=2") == 0
    settings = json.loads(Path("runs/latest/measures.json").read_text())
    assert len(settings["pictures"]) == 1
    capsys.readouterr()
    told = refused_command(capsys, *drawn, "--data", "kept.safetensors", "--set", "terms.features.layers=1")
    assert "no features of layer '1'" in told


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("dinov2", ["features:first"]),
        ("dinov2", ["features", "net.encoder.layer.0"]),
        ("detr", ["net.model.backbone.model.encoder.stages.1"]),
        ("vit", ["net.vit.layernorm:first"]),
    ],
)
def test_encoders_and_detectors_by_the_same_calls(
    zoo, data: Path, tmp_path: Path, kind: str, layers: list[str]
) -> None:
    address, out = zoo(kind), tmp_path / "kept.safetensors"
    model = load_model(address)
    for named, own in (((), {}), (("--features", *layers), {"terms.embedding.layer": layers[0]})):
        assert run("statistics", address, "--data", data, *named, "--out", out, "--overwrite") == 0
        result = generate(model, None, 1, PHOTOGRAPHS, data=out, **QUICK)
        assert result.images.shape == (1, 3, SIZE, SIZE)
        photo = load_images(data).images[:1].float() / 255
        assert len(invert(model, photo, recipe="from-features", data=out, **QUICK, **own)) == 1
    if model.feature() not in layers:
        with pytest.warns(UserWarning, match=f"statistics hold that of .*{layers[0]}.*terms.embedding.layer=NAME"):
            invert(model, photo, recipe="from-features", data=out, **QUICK)
    assert {key for key in load_file(out) if key.startswith("rows/")} == {f"rows/{layer}" for layer in layers}
