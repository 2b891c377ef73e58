"""The bundled networks and the example of a model of one's own, on real pictures."""

import math
from pathlib import Path

import pytest
import torch

import bothways
from bothways.models.catalogue import BUNDLED, bundled_names, card, kept_statistics
from bothways.numerics.coupling import ot
from bothways.numerics.draws import generator
from bothways.representation.flow_matching import flow_matching

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "squeezenet.py"


def test_they_take_under_eight_megabytes_together() -> None:
    sizes = {file.name: file.stat().st_size for file in BUNDLED.iterdir()}
    assert sum(sizes.values()) < 8e6
    assert sum(size for name, size in sizes.items() if "flow" not in name) < 4e6


def test_the_flow_has_the_loss_that_its_card_says(shared: Path) -> None:
    data = bothways.load_images(shared / "data" / "cifar10-jpeg", split="test", limit=200)
    flow, stated = bothways.load_flow("bundled:cifar10-flow"), card("cifar10-flow")
    assert sum(parameter.numel() for parameter in flow.parameters()) == stated["parameters"]
    x, source = flow.code(data.images.float() / 255), generator(0, purpose="the flow of the package")
    t = (torch.arange(len(x)) + 0.5) / len(x)
    noise = torch.randn(x.shape, generator=source)
    noise = noise[ot(x, noise)]
    with torch.no_grad():
        losses = flow_matching(flow, flow.path, x, noise, t)
    assert abs(losses.mean().item() - stated["validation_loss"]) < 4 * losses.std().item() / math.sqrt(len(x))


@pytest.mark.parametrize("name", bundled_names())
def test_a_network_reaches_what_its_card_says(name: str, shared: Path) -> None:
    data = bothways.load_images(shared / "data" / "cifar10-jpeg", split="test", limit=500)
    model = bothways.load_model(f"bundled:{name}")
    with torch.no_grad():
        right = (model.outputs(data.images.float() / 255).argmax(1) == data.labels).float().mean().item()
    stated = card(name)["accuracy"]
    assert abs(right - stated) < 4 * math.sqrt(stated * (1 - stated) / 500)


@pytest.mark.parametrize("name", bundled_names())
def test_the_kept_features_are_those_of_its_test_pictures(name: str, shared: Path) -> None:
    data = bothways.load_images(shared / "data" / "cifar10-jpeg", split="test")
    model, kept = bothways.load_model(f"bundled:{name}"), kept_statistics(f"bundled:{name}")
    with torch.no_grad():
        layer = model.spec.feature_layer
        found = model.features(data.images[:20].float() / 255, [layer])[layer]
    assert (found - kept["features"][:20]).abs().max() < 1e-2 * kept["features"].abs().max()
    assert torch.equal(data.labels[: len(kept["labels"])], kept["labels"].long())


def test_the_example_is_short_and_reads_photographs(shared: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25
    if not (EXAMPLE.parents[2] / "shared" / "weights").is_dir():
        pytest.skip("the example's weights are not beside the repository")
    data = bothways.load_images(shared / "data" / "imagenet-samples" / "samples.parquet", size=224, limit=40)
    model = bothways.load_model(f"{EXAMPLE}:build")
    with torch.no_grad():
        right = (model.outputs(data.images.float() / 255).argmax(1) == data.labels).float().mean().item()
    assert right > 0.5  # 67 % on 200 of them; read as RGB or divided by the usual spread it falls far below
