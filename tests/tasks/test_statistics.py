"""The file of statistics: written, read back, refused where it does not belong, and of use for drawing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bothways import ModelSpec, UserError, generate, load_model, statistics
from bothways.data.sources import load_images
from bothways.data.statistics import is_statistics
from bothways.models.adapter import Adapter
from bothways.models.cards import bundled_names
from bothways.models.catalogue import kept_statistics, read_statistics
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from bothways.synthesis.sampling import Part, Space, features_name, statistics_name
from bothways.synthesis.statistics import measure_spread
from bothways.tasks.shelf import work_of
from bothways.tasks.statistics.files import as_tensors, read_space, read_spread, space_of, stored_statistics
from command import refused as refused_command
from command import run
from toy_model import seeded, spec

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
HALF = 2.0**-11  # the relative error of half precision
FACTS = ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 4, feature_layer="2")


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


@pytest.fixture(scope="module")
def data(soft_pictures: Callable[[int], Path]) -> Path:
    return soft_pictures(40)


@pytest.fixture(scope="module")
def file(toy: Adapter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "folder" / "toy.safetensors"
    found = statistics(toy, data, out=out)
    assert (found.path, found.pictures) == (out, 40)
    return out


@pytest.fixture(scope="module")
def space(toy: Adapter, data: Path) -> Space:
    return space_of(toy, load_images(data).images.float() / 255)


def dense() -> nn.Module:
    """No normalisation and no convolution."""
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.SiLU(), nn.Linear(8, 4))


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- written and read back -----------------------------------------------------------------------------------------


def test_the_file_holds_what_was_measured(toy: Adapter, data: Path, file: Path) -> None:
    kept = load_file(file)
    again = statistics(toy, data)
    assert again.path is None
    assert kept.keys() == again.tensors.keys()
    assert all(torch.equal(kept[key], again.tensors[key]) for key in kept)
    wide = {"body.1:input": 6, "body.4:input": 8}
    shapes = {f"spread/{layer}/{part}": (c,) for layer, c in wide.items() for part in ("mean", "mean_std")}
    shapes |= {f"spread/{layer}/{part}": (c,) for layer, c in wide.items() for part in ("log_std", "log_std_std")}
    shapes |= {
        f"features/{layer}/{part}": (c,) for layer, c in (("body", 8), ("outputs", 4)) for part in ("mean", "std")
    }
    rank = len(kept["factor"])
    shapes |= {"factor": (rank, 2 * (6 + 8) + 8 + 4), "factor_scale": (rank,)}
    named = "\n".join(sorted(place.name for place in data.iterdir())).encode()
    shapes |= {"rows/body": (len(list(data.iterdir())), 8), "names": (len(named),)}
    assert {key: tuple(value.shape) for key, value in kept.items()} == shapes
    assert kept["factor"].dtype == torch.int8
    assert file.stat().st_size < 5000


def test_means_and_deviations_come_back_to_half_precision(toy: Adapter, data: Path, file: Path, space: Space) -> None:
    found = read_space(read_statistics(file))
    assert found is not None
    assert list(found.parts) == list(space.parts)
    for name, part in space.parts.items():
        for key in ("mean", "std"):
            exact = getattr(part, key)
            assert ((getattr(found.parts[name], key) - exact).abs() <= HALF * exact.abs() + 1e-7).all()
    wanted = measure_spread(toy, load_images(data).images.float() / 255, toy.statistics_layers())
    for layer, facts in read_spread(read_statistics(file)).items():
        for key in ("mean", "mean_std", "log_std", "log_std_std"):
            exact = getattr(wanted[layer], key)
            assert ((getattr(facts, key) - exact).abs() <= HALF * exact.abs() + 1e-5).all()


def test_eight_bit_directions_are_close_to_the_fit(file: Path, space: Space) -> None:
    found = read_space(read_statistics(file))
    assert found is not None
    step = space.factor.abs().amax(1, keepdim=True) / 127
    assert ((found.factor - space.factor).abs() <= 0.6 * step + 1e-6).all()  # its scale is rounded too
    covariances = [factor.T @ factor for factor in (found.factor, space.factor)]
    assert (covariances[0] - covariances[1]).abs().max() < 0.02
    drawn = [torch.cat(list(s.sample(Draws(range(9))).values()), 1) for s in (found, space)]
    std = torch.cat([part.std for part in space.parts.values()])
    assert ((drawn[0] - drawn[1]) / std).abs().max() < 0.05


def test_what_does_not_vary_has_no_direction_and_is_kept_all_the_same(tmp_path: Path) -> None:
    parts = {name: Part(torch.ones(4), torch.ones(4)) for name in (statistics_name("a"), features_name("b"))}
    save_file(as_tensors(Space(parts, torch.zeros(0, 8))), tmp_path / "flat.safetensors")
    found = read_space(read_statistics(tmp_path / "flat.safetensors"))
    assert found is not None
    assert found.factor.shape == (0, 8)
    assert list(found.parts) == list(parts)


def test_fewer_pictures_and_directions(toy: Adapter, data: Path) -> None:
    few = statistics(toy, data, limit=3, rank=1)
    assert (few.pictures, tuple(few.tensors["factor"].shape)) == (3, (1, 40))
    chosen = load_images(data, limit=3).images.float() / 255
    assert torch.equal(
        few.tensors["spread/body.1:input/mean"], as_tensors(space_of(toy, chosen, 1))["spread/body.1:input/mean"]
    )
    assert len(statistics(toy, data, limit=2).tensors["factor"]) == 1  # two pictures lie on a line


def test_models_without_normalisation_have_features_alone(data: Path, tmp_path: Path) -> None:
    net, file = dense(), tmp_path / "dense.safetensors"
    found = statistics(net, data, spec=FACTS, out=file)
    assert {key.split("/")[0] for key in found.tensors} == {"features", "factor", "factor_scale", "rows", "names"}
    for source in (data, file):
        assert len(generate(net, None, 1, "sampled", spec=FACTS, steps=2, data=source)) == 1
    encoder = ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 0)  # its features are what it gives
    assert statistics(net, data, spec=encoder).tensors["rows/:output"].shape == (40, 4)
    assert len(generate(net, None, 1, "sampled", spec=encoder, steps=2, data=data)) == 1


def test_the_logits_may_be_the_features(data: Path) -> None:
    facts = ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 4, feature_layer="outputs")
    assert statistics(dense(), data, spec=facts).tensors["factor"].shape[1] == 4


def test_it_says_how_far_it_is_and_changes_no_setting_of_the_caller(
    toy: Adapter, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = statistics(toy, data)
    monkeypatch.setattr("bothways.synthesis.sampling.PIXELS_AT_ONCE", 16 * 16 * 15)  # of 40 pictures
    seen: list[tuple[int, float, bool]] = []
    found = statistics(
        toy, data, on_frame=lambda f: seen.append((f.step, f.stats["pictures"], torch.is_grad_enabled()))
    )
    assert seen == [(1, 15, True), (2, 30, True), (3, 40, True)]
    for key in whole.tensors:
        gap = (found.tensors[key].float() - whole.tensors[key].float()).abs().max()
        assert gap <= (1 if key == "factor" else 1e-3)  # whole numbers of -127 to 127


def test_the_command_writes_the_file_that_python_writes(
    data: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "toy.safetensors"
    assert run("statistics", TOY, "--data", data, "--out", out) == 0
    assert out.read_bytes() == file.read_bytes()
    said = capsys.readouterr().out
    assert f"4 layers over 40 pictures, the features of 40 of them, 4 kB in {out}" in said
    assert f"--unconditional --data {out}" in said
    assert "--overwrite" in refused_command(capsys, "statistics", TOY, "--data", data, "--out", out)
    assert run("statistics", TOY, "--data", data, "--layer", "body.2", "body:input", "--out", out, "--overwrite") == 0
    assert {key.split("/")[1] for key in load_file(out) if key.startswith("spread")} == {"body.2", "body:input"}


# ---- refused -------------------------------------------------------------------------------------------------------


def test_a_file_of_another_model_is_refused_before_anything_is_drawn(file: Path, data: Path, tmp_path: Path) -> None:
    class Wide(nn.Module):
        """The toy's layers by name, others by size."""

        def __init__(self) -> None:
            super().__init__()
            first = [nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.SiLU()]
            self.body = nn.Sequential(*first, nn.Conv2d(7, 9, 3), nn.BatchNorm2d(9), nn.SiLU())
            self.head = nn.Linear(9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).mean((2, 3)))

    own = tmp_path / "dense.safetensors"
    statistics(dense(), data, spec=FACTS, out=own)
    for model, facts, given in (
        (dense(), FACTS, file),
        (Wide(), load_model(TOY).spec, file),
        (TOY, None, own),
        (TOY, None, tmp_path / "weights.safetensors"),
    ):
        if given.name == "weights.safetensors":
            save_file({"head.weight": torch.ones(2)}, given)
        said = refused(generate, model, None, 1, "sampled", spec=facts, data=given, out=tmp_path / "run")
        assert "holds no statistics of model" in said
        assert "type bothways statistics" in said
        assert str(given) in said
        assert said.endswith("--out statistics.safetensors, and that file")  # not over the one that is there
    assert not (tmp_path / "run").exists()


def test_a_file_knows_the_weights_it_was_measured_with(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in ((1, "one"), (2, "two")):
        state = {key: value.contiguous() for key, value in seeded(seed=seed).state_dict().items()}
        save_file(state, tmp_path / f"{name} w.safetensors")
    one, two = (["--weights", str(tmp_path / f"{name} w.safetensors")] for name in ("one", "two"))
    out = tmp_path / "one.safetensors"
    assert run("statistics", TOY, *one, "--data", data, "--out", out) == 0
    (typed,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("bothways generate")]
    assert "--weights" in typed
    drawn = ["--steps", "1", "--n", "1", "--no-verdicts"]
    assert run(*shlex.split(typed)[1:], *drawn, "--out", tmp_path / "a") == 0  # the command that was printed
    capsys.readouterr()
    for other in ([], two):
        said = refused_command(
            capsys, "generate", TOY, *other, "--unconditional", "--data", out, *drawn, "--out", tmp_path / "b"
        )
        assert "was measured with other weights" in said
        assert "give the --weights that it was measured with" in said
    other_mean = replace(spec(), mean=(0.1,) * 3)
    with pytest.raises(UserError, match="measured with other preprocessing"):
        generate(seeded(seed=1), n=1, spec=other_mean, data=out, steps=1)


@pytest.mark.filterwarnings("default")
def test_a_file_that_does_not_know_its_weights_is_taken_with_a_note(file: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.safetensors"
    save_file(load_file(file), older)
    with pytest.warns(UserWarning, match="does not say which weights it was measured with"):
        generate(TOY, n=1, data=older, steps=1, verdicts=False)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for recipe in ("sampled", "statistics-tv", "icons"):
        classes = 0 if recipe == "icons" else None
        said = refused(generate, TOY, classes, 1, recipe, data=tmp_path / "none.safetensors")
        assert "does not exist" in said
        (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
        assert "cannot be read" in refused(generate, TOY, classes, 1, recipe, data=tmp_path / "bad.safetensors")


def test_rules_for_the_place_of_the_file(toy: Adapter, data: Path, file: Path, tmp_path: Path) -> None:
    for name in ("toy", "toy.pt", "toy.safetensors.txt", ""):
        assert ".safetensors file" in refused(statistics, toy, data, out=tmp_path / name)
    before = file.read_bytes()
    assert "--overwrite" in refused(statistics, toy, data, out=file, limit=5)
    assert file.read_bytes() == before
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(before[:-8])
    statistics(toy, data, out=str(copy), overwrite=True)
    assert copy.read_bytes() == before  # the same pictures give the same file, byte for byte
    (tmp_path / "in the way").write_text("mine")
    said = refused(statistics, toy, data, out=tmp_path / "in the way" / "toy.safetensors")
    assert "choose a place that can be written" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.safetensors", "in the way"]


def test_what_cannot_be_measured(toy: Adapter, data: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert "limit=1" in refused(statistics, toy, data, limit=1, out=out)
    assert "rank=0" in refused(statistics, toy, data, rank=0, out=out)
    assert "is a statistics file, not real pictures" in refused(statistics, toy, file, out=out)
    assert "does not exist" in refused(statistics, toy, tmp_path / "none", out=out)
    assert "ModelSpec(size=" in refused(statistics, dense(), data, out=out)
    one = tmp_path / "one"
    one.mkdir()
    (one / "0.png").write_bytes((data / "00.png").read_bytes())
    assert "two real images" in refused(statistics, toy, one, out=out)
    assert not out.exists()


# ---- of use --------------------------------------------------------------------------------------------------------


def test_the_file_is_the_data_of_a_drawing(toy: Adapter, data: Path, file: Path, space: Space) -> None:
    assert is_statistics(file)
    assert is_statistics(str(file))
    assert not is_statistics(data)
    assert not is_statistics(None)
    by_file, by_pictures = (
        work_of("generate", toy, recipe="sampled", data=d, n=2).setup.roles.priors.space for d in (file, data)
    )
    assert by_file is not None
    assert by_pictures is not None
    assert list(by_file.parts) == list(by_pictures.parts) == list(space.parts)
    assert (by_file.factor - by_pictures.factor).abs().max() < 0.01
    drawn = [generate(toy, None, 2, "sampled", data=d, steps=3) for d in (file, data)]
    assert drawn[0].tables["settings"] == drawn[1].tables["settings"]
    assert (drawn[0].images - drawn[1].images).abs().mean() < 0.01
    assert drawn[0].measures["judges"][0]["diversity_real"] is None  # a file holds no pictures to compare with
    assert drawn[1].measures["judges"][0]["diversity_real"] is not None


@pytest.mark.parametrize(("recipe", "classes"), [("icons", [1]), ("statistics-tv", None)])
def test_the_file_serves_the_recipes_that_match_the_spread(
    toy: Adapter, data: Path, file: Path, recipe: str, classes: list[int] | None
) -> None:
    by_file, by_pictures = (generate(toy, classes, 2, recipe, data=d, steps=3) for d in (file, data))
    assert "statistics" in by_file.frames[0].stats
    assert (by_file.images - by_pictures.images).abs().mean() < 0.01


@pytest.mark.parametrize("name", bundled_names())
def test_what_is_kept_with_a_bundled_model_fits_it(name: str) -> None:
    model = load_model(f"bundled:{name}")
    kept = kept_statistics(model.name)
    assert sorted(read_spread(kept)) == sorted(model.statistics_layers())
    space = read_space(kept)
    if space is None:
        pytest.skip(f"no directions are kept with bundled:{name}: its file is older than they are")
    assert space.factor.shape[1] == sum(len(part.mean) for part in space.parts.values())
    assert space.factor.square().sum(0).max() < 1.05
    assert set(space.parts) <= {statistics_name(layer) for layer in model.statistics_layers()} | {
        features_name(str(model.spec.feature_layer)),
        features_name("outputs"),
    }
    assert stored_statistics(model, None).keys() == kept.keys()


def test_statistics_of_any_layer(toy: Adapter, data: Path) -> None:
    found = read_spread(statistics(toy, data, layers=["body.2", "body:input"]).tensors)
    images = load_images(data).images.float() / 255
    wanted = measure_spread(toy, images, ["body.2", "body:input"])
    assert set(found) == set(wanted)
    for layer, facts in wanted.items():
        assert (found[layer].mean - facts.mean).abs().max() <= 2 * HALF * facts.mean.abs().max()
    with pytest.raises(UserError, match="has no layer"):
        statistics(toy, data, layers=["nowhere"])


def test_data_of_a_test_split_alone_are_measured(tmp_path) -> None:
    for name in ("anchor", "barrel"):
        (tmp_path / "test" / name).mkdir(parents=True)
        for i, image in enumerate(Draws(range(4)).uniform((3, 16, 16))):
            (tmp_path / "test" / name / f"{i}.png").write_bytes(to_png(image))
    found = generate(TOY, ["anchor"], 1, "icons", steps=1, data=tmp_path, judges=[])
    assert len(found) == 1
