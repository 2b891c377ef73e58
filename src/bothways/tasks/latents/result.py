"""The result of ``latents``: the files, and measures["latents"]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bothways.brief import Kept
from bothways.tasks.measures import Count, Measures, Skipped


class LatentsFacts(BaseModel):
    """measures["latents"]. shape: (C,h,w) of a latent. files: by split.

    rms, back: over the first n pictures: of a latent's numbers, about 1 where the scaling fits; and of what differs
    between a picture in [0, 1] and its latent decoded.
    skipped: {split: {unreadable picture: reason}}.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    flow: str
    autoencoder: str
    shape: list[int]
    pictures: dict[str, Count]
    files: dict[str, str]
    n: Count
    rms: float
    back: float
    skipped: dict[str, Skipped]


class LatentsMeasures(Measures):
    """measures.json of an encoding."""

    latents: LatentsFacts


@dataclass(frozen=True, repr=False)
class EncodedLatents(Kept):
    """The files of latents by split, and the content of measures.json. folder: that of the run, the data of others."""

    measures: dict[str, Any]
    files: dict[str, Path]
    folder: Path

    @property
    def kept(self) -> str:
        return str(self.folder)

    @property
    def facts(self) -> LatentsFacts:
        return LatentsFacts(**self.measures["latents"])
