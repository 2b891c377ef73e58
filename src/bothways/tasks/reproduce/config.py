"""The settings of ``reproduce``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from bothways.configs import Config, setting
from bothways.registry import register
from bothways.types import UserError


def _pairs(given: Any) -> Any:
    """{"cifar10": "path"} or "cifar10=path" as ["cifar10=path"]."""
    if isinstance(given, Mapping):
        return [f"{name}={address}" for name, address in given.items()]
    return [given] if isinstance(given, str) else given


@register("task", "reproduce", help="Run a table or figure of the papers again, and compare with what it claims.")
class ReproduceConfig(Config):
    """Run a table or figure of the papers again, and print ours beside the paper's, with a verdict for each claim.

    --small runs on two cores with what the package brings, on other pictures and smaller networks than the paper's;
    --full takes the paper's data and models, by --with. --list prints what there is, what each needs and takes.

    A run that is complete in the folder is not made again, and a stopped one goes on, by the same command
    or by --resume alone. --overwrite makes them anew.

    A claim is reproduced if the 95 % interval over three seeds or more bears it out, not reproduced if the interval
    speaks against it, undecided between the two, and not comparable where data or networks are not the paper's.

    Examples
    bothways reproduce --list
    bothways reproduce prg-straightness
    bothways reproduce prg-cifar10 --full --with cifar10=hub:uoft-cs/cifar10 --device cuda
    """

    gives: ClassVar[str] = "a dict, the content of measures['reproduction']: claims with verdicts; listed gives a list"
    writes: ClassVar[bool] = True
    folder: ClassVar[str] = "runs/reproduce"

    name: str | None = setting(
        None, "Name of a table or figure (see --list), or a .toml file.", argument=True, unless=("listed",)
    )
    full: bool = setting(
        False, "the paper's data and models, or what two cores can do", flags=("--full/--small",), common=True
    )
    listed: bool = setting(False, "list the tables and figures, and exit", flags=("--list",), common=True)
    inputs: Annotated[list[str], BeforeValidator(_pairs)] = setting(
        [], "data or model of a full form, as NAME=ADDRESS", flags=("--with",), metavar="NAME=ADDRESS", common=True
    )
    device: str | None = setting(None, "compute device of all runs: cpu, cuda, mps; if unset, theirs", common=True)

    @model_validator(mode="after")
    def _names_inputs(self) -> ReproduceConfig:
        for pair in self.inputs:
            name, equals, address = pair.partition("=")
            if not (name and equals and address):
                raise UserError(f"--with {pair!r}: type NAME=ADDRESS, such as cifar10=path/to/cifar10")
        return self

    @property
    def form(self) -> str:
        return "full" if self.full else "small"

    @property
    def addresses(self) -> dict[str, str]:
        """{name: address} of the inputs."""
        return {name: address for name, _, address in (pair.partition("=") for pair in self.inputs)}
