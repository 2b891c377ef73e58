"""The schema of measures["flow"]["likelihood"]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bothways.brief import Brief
from bothways.tasks.measures import Measures, Number


class GivenNoise(BaseModel):
    """E log p(x_0 | x_1), PRG's indicator, in nats per dimension of the flow's units, with its 95 % interval.

    low, high: NaN for a single picture.
    """

    model_config = ConfigDict(frozen=True)

    nats_per_dim: float
    low: Number
    high: Number


class Likelihood(Brief, BaseModel):
    """Bits per dimension of n pictures, with the ends of the 95 % interval over pictures.

    dims: values of a picture that the flow sees. calls: of the network for one picture and draw. bits: of each picture.
    steps: None for an adaptive solver. low, high: NaN for a single picture. measures: what measures.json holds.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    bits_per_dim: float
    low: Number
    high: Number
    solver: str
    steps: int | None
    divergence: str
    dims: int
    calls: int
    draws: int
    n: int
    bits: list[float] = Field(repr=False)
    latent: bool = False  # the bits are of a latent's density, which may be negative, and of no picture
    given_noise: GivenNoise | None = None  # not in the runs of earlier versions
    measures: dict[str, Any] = Field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, measures: Mapping[str, Any]) -> Likelihood:
        """The validated result of the measures of a run."""
        return cls(**measures["flow"]["likelihood"], measures=dict(measures))


class LikelihoodMeasures(Measures):
    """measures.json of a likelihood."""

    flow: dict[Literal["likelihood"], Likelihood]
