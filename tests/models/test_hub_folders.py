"""A folder in the layout of a hub that someone else has written: one line, no pickle is run, and nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import UserError, load_model
from hostile import no_hang
from zoo import ZOO

KINDS = ("resnet", "timm")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made: dict[str, str] = {}
    above = tmp_path_factory.mktemp("hubs")
    return lambda kind: made.setdefault(kind, "") or made.__setitem__(kind, ZOO[kind](above / kind)) or made[kind]


class Evil:
    """An object that writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def copied(address: str, place: Path) -> str:
    """The address of a copy of the folder."""
    folder = Path(address.rpartition(":")[2])
    shutil.copytree(folder, place)
    return address.replace(str(folder), str(place))


def refused(address: str) -> str:
    with no_hang(), pytest.raises(UserError) as error:
        load_model(address)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_in_place_of_the_weights_is_not_run(
    kind: str, name: str, whole: Callable[[str], str], tmp_path: Path
) -> None:
    address = copied(whole(kind), tmp_path / "hub")
    (tmp_path / "hub" / "model.safetensors").unlink()
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / "hub" / name)
    assert refused(address)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "hub" / name).rename(tmp_path / "plain.bin")
    torch.load(tmp_path / "plain.bin", weights_only=False)  # which it would have done
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["pipe", "device"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_and_a_device_are_refused_unopened(
    kind: str, what: str, whole: Callable[[str], str], tmp_path: Path
) -> None:
    for file in ("config.json", "model.safetensors"):
        address = copied(whole(kind), tmp_path / file / "hub")
        place = tmp_path / file / "hub" / file
        place.unlink()
        os.mkfifo(place) if what == "pipe" else place.symlink_to("/dev/zero")
        assert f"{place}: is a" in refused(address)


@pytest.mark.parametrize(
    "facts",
    [
        [],
        ["image_mean"],
        {"image_mean": "x", "image_std": [1, 1, 1], "size": 32},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": "x"},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": [], "width": 1}},
        {"image_mean": [0.5] * 3, "image_std": [0, 0, 0], "size": 32},
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 32, "rescale_factor": "x"},
    ],
)
def test_a_preprocessor_of_other_kinds_is_one_line(facts: Any, whole: Callable[[str], str], tmp_path: Path) -> None:
    address = copied(whole("resnet"), tmp_path / "hub")
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(facts))
    assert refused(address)


def test_a_config_of_too_many_layers_is_refused_before_they_are_built(
    whole: Callable[[str], str], tmp_path: Path
) -> None:
    for kind, change in (("resnet", {"depths": [1, 10**6]}), ("timm", {"model_args": {"depth": 10**6}})):
        address = copied(whole(kind), tmp_path / kind)
        config = tmp_path / kind / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | change))
        assert "is more than 2,000 layers; give the config of the weights" in refused(address)


@pytest.mark.parametrize(
    "change", [{"hidden_sizes": [8 * 10**5, 12 * 10**5]}, {"hidden_sizes": "x"}, {"depths": 10**30}]
)
def test_a_config_of_other_kinds_or_too_large_is_one_line(
    change: dict[str, Any], whole: Callable[[str], str], tmp_path: Path
) -> None:
    address = copied(whole("resnet"), tmp_path / "hub")
    config = tmp_path / "hub" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    assert refused(address)
    config.write_text("[" * 10_000)
    assert refused(address)
