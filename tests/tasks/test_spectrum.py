"""The spectrum of a data set: what is measured, kept, read and refused; the bundled one; pictures drawn with one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

import bothways
from bothways import UserError, generate
from bothways.models.cards import BUNDLED
from bothways.numerics.draws import Draws
from bothways.numerics.spectra import frequencies
from bothways.runs import RunFolder, to_png
from bothways.synthesis.parameterizations.maco import transparency
from bothways.tasks.spectrum.files import read_spectrum, write_spectrum

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
QUICK = {"recipe": "maco", "steps": 3, "seed": 4, "judges": []}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 pictures of 18 pixels, brighter above than below: more than are taken at once."""
    folder = tmp_path_factory.mktemp("photos")
    shade = torch.linspace(1, 0.2, 18)[:, None]
    for i, image in enumerate(Draws(range(70)).uniform((3, 18, 18))):
        (folder / f"{i:02}.png").write_bytes(to_png(image * shade))
    return folder


def bytes_of(photos: Path) -> np.ndarray:
    return bothways.load_images(photos).images.numpy() / 255


# ---- measuring -----------------------------------------------------------------------------------------------------


def test_it_is_the_mean_of_numpys_amplitudes(photos: Path, tmp_path: Path) -> None:
    seen: list[bothways.Frame] = []
    found = bothways.spectrum(photos, out=tmp_path / "a.safetensors", on_frame=seen.append)
    pictures = bytes_of(photos)
    planes = np.stack(
        [
            pictures.sum(1) / np.sqrt(3),
            (pictures[:, 0] - pictures[:, 2]) / np.sqrt(2),
            (2 * pictures[:, 1] - pictures[:, 0] - pictures[:, 2]) / np.sqrt(6),
        ],
        axis=1,
    )
    wanted = np.abs(np.fft.rfft2(planes, norm="ortho")).mean(0)
    assert np.abs(found.magnitude.numpy() - wanted).max() < 1e-12
    assert np.abs(found.mean.numpy() - pictures.mean((0, 2, 3))).max() < 1e-12
    assert np.abs(found.covariance.numpy() - np.cov(pictures.swapaxes(0, 1).reshape(3, -1), bias=True)).max() < 1e-12
    assert found.count == 70
    assert [frame.step for frame in seen] == [*range(1, 71)]
    assert seen[-1].t == 1
    kept = read_spectrum(tmp_path / "a.safetensors")
    assert (kept.magnitude / found.magnitude - 1).abs().max() < 1e-3  # half precision
    assert (kept.mean - found.mean).abs().max() < 1e-7
    assert (kept.covariance - found.covariance).abs().max() < 1e-8
    assert kept.count == 70


def test_a_file_of_before_has_no_covariance_and_gives_axes(photos: Path, tmp_path: Path) -> None:
    found = bothways.spectrum(photos, out=tmp_path / "a.safetensors")
    write_spectrum(tmp_path / "b.safetensors", dataclasses.replace(found, covariance=None))
    old = read_spectrum(tmp_path / "b.safetensors")
    assert old.covariance is None
    assert (old.axes() - dataclasses.replace(found, covariance=None).axes()).abs().max() < 1e-4
    drawn = [
        generate(TOY, 0, 1, "das", steps=2, judges=[], **{"canvas.colours": str(tmp_path / name)}).images
        for name in ("a.safetensors", "b.safetensors", "a.safetensors")
    ]
    assert torch.equal(drawn[0], drawn[2])
    assert (drawn[0] - drawn[1]).abs().max() > 1 / 255


def test_a_hann_window_is_scipys_at_unit_mean_square(photos: Path) -> None:
    found = bothways.spectrum(photos, window="hann")
    pictures = bytes_of(photos)
    window = np.outer(scipy.signal.windows.hann(18, sym=False), scipy.signal.windows.hann(18, sym=False))
    faded = (pictures - pictures.mean((2, 3), keepdims=True)) * window / np.sqrt((window**2).mean())
    lightness = np.abs(np.fft.rfft2(faded.sum(1) / np.sqrt(3), norm="ortho")).mean(0)
    assert np.abs(found.magnitude[0].numpy() - lightness).max() < 1e-12


def test_size_and_limit(photos: Path) -> None:
    found = bothways.spectrum(photos, size=16, limit=9)
    images = bothways.load_images(photos, size=16, limit=9).images.double() / 255
    assert (found.size, found.count) == (16, 9)
    assert (found.mean - images.mean((0, 2, 3))).abs().max() < 1e-12


def test_pictures_that_cannot_be_read_are_skipped(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "some")
    (tmp_path / "some" / "broken.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 unreadable pictures skipped"):
        found = bothways.spectrum(tmp_path / "some")
    assert (found.magnitude - bothways.spectrum(photos).magnitude).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 4}, "type --size 16 or more"),
        ({"limit": 0}, "limit=0: Input should be greater than or equal to 1"),
        ({"out": "a.npy"}, "type the name of a .safetensors file"),
        ({"data": "nowhere"}, "does not exist"),
    ],
)
def test_mistakes_are_told(photos: Path, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bothways.spectrum(**{"data": photos, **options})


def test_pictures_of_several_sizes_and_earlier_files_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(to_png(torch.rand(3, 18, 20)))
    with pytest.raises(UserError, match=r"picture of 18x20.*type --size 224"):
        bothways.spectrum(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no readable picture"):
        bothways.spectrum(tmp_path / "empty")
    file = tmp_path / "a.safetensors"
    first = bothways.spectrum(photos, limit=2, out=file)
    with pytest.raises(UserError, match="type --overwrite, or another name"):
        bothways.spectrum(photos, out=file)
    assert read_spectrum(file).count == first.count
    assert bothways.spectrum(photos, out=file, overwrite=True).count == read_spectrum(file).count == 70


def test_what_is_no_spectrum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; type bothways spectrum"):
        read_spectrum(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="holds no 'magnitude', so it is not a spectrum") as caught:
        read_spectrum(BUNDLED / "cifar10-plain.statistics.safetensors")
    assert str(caught.value).endswith("--out spectrum.safetensors, and that file")  # not over the one that is there
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_spectrum(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not exist; type bothways spectrum"):
        generate(TOY, 0, 1, **{"canvas.spectrum": str(tmp_path / "none.safetensors")}, **QUICK)


# ---- the bundled one -----------------------------------------------------------------------------------------------


def test_the_bundled_spectrum_is_small_and_falls_as_natural_pictures_do() -> None:
    found = read_spectrum()
    assert (BUNDLED / "natural.spectrum.safetensors").stat().st_size < 15_000
    assert (found.size, found.count) == (32, 50_000)
    assert 1.1 < found.law()[0, 1] < 1.4  # Field 1987: about 1; the rest is what small JPEGs lose
    assert (found.law()[0, 0] > found.law()[1:, 0]).all()  # lightness is stronger than colour


def test_carried_on_to_224_pixels_it_is_that_of_photographs(shared: Path) -> None:
    """Against 200 photographs: lightness within a fifth; colours, which small JPEGs lose, within a factor of 2."""
    photographs = bothways.spectrum(shared / "data" / "imagenet-samples" / "samples.parquet", size=224, limit=200)
    radius = torch.hypot(*frequencies(224, 224, 224))
    error = (read_spectrum().at(224, 224) / photographs.magnitude).log()
    for low, high, bound in ((1, 16, 0.15), (16, 113, 0.25), (1, 200, 0.25)):
        ring = (radius >= low) & (radius < high)
        assert error[0, ring].square().mean().sqrt() < bound
        assert abs(error[0, ring].mean()) < 0.15
    assert error[1:, radius >= 1].mean(1).abs().max() < 0.7


# ---- drawing with one ----------------------------------------------------------------------------------------------


def spoken(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "images").iterdir())


def test_transparency_is_kept_beside_the_pictures_and_in_the_result(tmp_path: Path) -> None:
    result = generate(TOY, ["anchor", "dragon"], 1, out=tmp_path / "run", **QUICK)
    assert spoken(tmp_path / "run") == [
        "0000-anchor-alpha.png", "0000-anchor.png", "0001-dragon-alpha.png", "0001-dragon.png",
    ]  # fmt: skip
    assert result.alphas is not None
    assert result.alphas.shape == (2, 1, 16, 16)
    assert result.alphas.std() > 0.05
    folder = RunFolder.open(tmp_path / "run")
    for record, image, alpha in zip(folder.pictures, result.images, result.alphas, strict=True):
        assert torch.equal(folder.read_picture(record), image)
        assert torch.equal(folder.read_alpha(record), alpha)
    saved = result.save(tmp_path / "saved")
    assert spoken(saved) == spoken(tmp_path / "run")
    again = generate(TOY, ["anchor", "dragon"], 1, out=tmp_path / "run", resume=True, **QUICK)
    assert torch.equal(again.alphas, result.alphas)
    assert generate(TOY, "anchor", 1, out=tmp_path / "run", overwrite=True, **QUICK | {"recipe": "das"}).alphas is None
    assert spoken(tmp_path / "run") == ["0000-anchor.png"]


def test_a_run_that_is_cut_short_goes_on_to_the_same_transparency(tmp_path: Path) -> None:
    options = {**QUICK, "steps": 6, "batch": 2, "optimizer": "momentum", "border": 2, "step_noise": 0.1}
    whole = generate(TOY, range(3), 1, out=tmp_path / "whole", **options)

    def stop(frame: bothways.Frame) -> None:
        if frame.step == 4:
            raise KeyboardInterrupt

    for again in (False, True):  # in the first batch, and again in the second
        with pytest.raises(KeyboardInterrupt):
            generate(TOY, range(3), 1, out=tmp_path / "cut", resume=again, on_frame=stop, **options)
    found = generate(TOY, range(3), 1, out=tmp_path / "cut", resume=True, **options)
    assert torch.equal(found.images, whole.images)
    assert torch.equal(found.alphas, whole.alphas)
    for name in spoken(tmp_path / "whole"):
        assert (tmp_path / "cut" / "images" / name).read_bytes() == (tmp_path / "whole" / "images" / name).read_bytes()


def test_a_picture_is_the_same_in_any_batch_and_grey_starts_as_noise() -> None:
    options = {**QUICK, "steps": 2}
    together = generate(TOY, range(3), 1, **options)
    for batch in (1, 2):
        assert (generate(TOY, range(3), 1, batch=batch, **options).images - together.images).abs().max() < 1.5 / 255
    noise, grey = (generate(TOY, range(3), 1, **{**options, "steps": 0, "start": s}).images for s in ("noise", "grey"))
    assert torch.equal(noise, grey)
    assert (noise[0] - noise[1]).abs().max() > 0.1


def test_a_spectrum_of_ones_own_is_what_is_drawn_with(photos: Path, tmp_path: Path) -> None:
    bothways.spectrum(photos, out=tmp_path / "own.safetensors")
    own = generate(
        TOY, 0, 1, **{**QUICK, "steps": 0}, squash="clamp", **{"canvas.spectrum": str(tmp_path / "own.safetensors")}
    )
    mean = read_spectrum(tmp_path / "own.safetensors").mean
    assert (own.images.mean((0, 2, 3)) - mean).abs().max() < 0.02  # but for what is clamped
    assert (generate(TOY, 0, 1, **{**QUICK, "steps": 0}).images.mean((0, 2, 3)) - mean).abs().max() > 0.05


def test_any_way_of_holding_a_picture_may_keep_transparency() -> None:
    result = generate(TOY, 0, 1, "das", steps=2, judges=[], alpha=True)
    assert result.alphas is not None
    assert 0 <= result.alphas.min() < result.alphas.max() == transparency(torch.zeros(1, 1, 1, 1)).max()
