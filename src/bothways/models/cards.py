"""Cards of the bundled models (JSON beside safetensors), and lists of models, addresses and U-Nets.

Free of torch, since lists and help pages read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from bothways.models.libraries.known import FLOW_LIBRARIES, LIBRARIES, Library
from bothways.reading import SETTINGS_AT_MOST, Checked, read_table
from bothways.registry import nearest
from bothways.types import UserError

BUNDLED = Path(__file__).parent / "bundled"
FLOW_CARD = "flow.json"  # in a run of pretrain
CLASSIFIER_CARD = "classifier.json"  # in a run of finetune


# ---- what a card holds ---------------------------------------------------------------------------------------------


class Facts(Checked):
    """ "spec": the fields of a ModelSpec, which checks their values."""

    size: int | list[int]
    mean: float | list[float]
    std: float | list[float]
    classes: int | str | list[str]
    channel_order: str = "RGB"
    feature_layer: str | None = None
    source: str = ""
    licence: str = ""
    time_scale: float | None = None
    path: str | None = None
    levels: int = 256
    time_first: bool = False
    crop: float = 1.0
    interpolation: str = "bicubic"
    squash: bool = False


class Network(Checked):
    """ "network": one of ours by name, with its options beside. build: the address of one of a user's own file."""

    name: str
    build: str | None = None
    __pydantic_extra__: dict[str, int | float | bool | list[int | float] | None]


class Coupling(Checked):
    """The loss of a training."""

    coupling: str | None = None


class Training(Checked):
    """ "recipe": the settings of a training."""

    coupling: str | None = None
    loss: Coupling | None = None


class Trained(Checked):
    """What any card may say of its training."""

    recipe: Training | None = None
    trained_on: list[dict[str, Any]] | None = None


class Card(Trained):
    """The card of a network, or of a flow."""

    network: Network
    spec: Facts


class Origin(Checked):
    """ "flow": how the network of a flow is built, by one of the three."""

    network: Network | None = None
    diffusers: dict[str, Any] | None = None
    address: str | None = None
    autoencoder: dict[str, Any] | None = None
    spec: Facts


class WalkFacts(Checked):
    """The walk of the pictures to noise."""

    steps: int | None
    solver: str


class ReadFacts(Checked):
    """ "features": what the head reads."""

    kind: str
    walk: WalkFacts
    layers: list[str]


class ClassifierCard(Trained):
    """The card of a flow-based classifier."""

    flow: Origin
    features: ReadFacts
    head: str
    classes: int | list[str]
    target: Literal["class", "multi-label", "regression"] = "class"


def read_card(file: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON of a card. Raises UserError that names the file and the key, FileNotFoundError where no file is."""
    return read_table(file, schema, SETTINGS_AT_MOST)


# ---- the bundled ones ----------------------------------------------------------------------------------------------


def bundled_names() -> list[str]:
    """Names of the bundled models, for ``load_model``."""
    return _bundled("model")


def bundled_flows() -> list[str]:
    """Names of the bundled flows, for ``load_flow``."""
    return _bundled("flow")


def bundled_classifiers() -> list[str]:
    """Names of the bundled flow-based classifiers, for ``load_classifier``."""
    return _bundled("classifier")


def card(name: str) -> dict[str, Any]:
    """Card of a bundled model: network, spec, data, accuracy with its interval, licence, limits."""
    return read_card(card_file(name), Checked)


def card_file(name: str) -> Path:
    """File of a bundled model's card. Raises UserError for an unknown name, with the nearest."""
    if name not in _all_bundled():
        near = nearest(f"bundled:{name}", [f"bundled:{one}" for one in _all_bundled()])
        raise UserError(f"no bundled model {name!r}; {near}")
    return BUNDLED / f"{name}.json"


def _all_bundled() -> list[str]:
    return sorted(path.stem for path in BUNDLED.glob("*.json"))


def _bundled(kind: str) -> list[str]:
    return [name for name in _all_bundled() if _kind(card(name)) == kind]


def _kind(facts: dict[str, Any]) -> str:
    """Kind of a card by its keys: "model", "flow" or "classifier"."""
    if "features" in facts:
        return "classifier"
    return "model" if facts["spec"].get("path") is None else "flow"


# ---- lists -----------------------------------------------------------------------------------------------------------


def cards() -> list[dict[str, Any]]:
    """Cards of the bundled models."""
    return [card(name) for name in bundled_names()]


def classifier_cards() -> list[dict[str, Any]]:
    """Cards of the bundled flow-based classifiers."""
    return [card(name) for name in bundled_classifiers()]


def flow_cards() -> list[dict[str, Any]]:
    """Cards of the bundled flows."""
    return [card(name) for name in bundled_flows()]


def addresses() -> list[tuple[str, str, str]]:
    """(example, description, install command or "") of every kind of model address."""
    own = [
        ("bundled:cifar10-resnet", "one of the models above", ""),
        (
            "PATH.py:FUNCTION",
            "your own file; the function returns (nn.Module, bothways.ModelSpec(...)), or these and what encodes text",
            "",
        ),
        ("PATH/NAME.json", "the card that bothways train wrote", ""),
        ("FOLDER", "the classifier that bothways finetune wrote", ""),
    ]
    return own + [_address(kind) for kind in LIBRARIES.values()]


def flow_addresses() -> list[tuple[str, str, str]]:
    """(example, description, install command or "") of every kind of flow address."""
    own = [
        ("FOLDER, PATH/flow.json", "what bothways pretrain wrote", ""),
        ("PATH.py:FUNCTION", "your own file; the function returns (nn.Module, bothways.ModelSpec(..., path=...))", ""),
        ("torchcfm:FILE.pt", "a CIFAR-10 checkpoint of torchcfm", ""),
    ]
    return own + [_address(kind) for kind in FLOW_LIBRARIES.values()]


def _address(kind: Library) -> tuple[str, str, str]:
    return kind.example, kind.holds, "" if kind.installed else kind.install


UNETS = {  # name -> (parameters, description)
    "unet-s": (42_375_939, "PRG's smaller one, 32 pixels"),
    "unet-m": (52_542_979, "that of PRG's code, 32 pixels"),
    "unet-64": (121_060_483, "that of PRG's code, 64 pixels"),
    "unet-torchcfm": (35_746_307, "torchcfm's for CIFAR-10"),
    "unet-small": (4_315_212, "32 pixels on two processor cores: pixels folded by twos"),
    "unet-tiny": (756_163, "8 pixels, such as digits"),
}


def unets() -> list[tuple[str, int, str]]:
    """(name, parameters, description) of the U-Nets; a test compares the counts with the networks."""
    return [(name, *facts) for name, facts in UNETS.items()]
