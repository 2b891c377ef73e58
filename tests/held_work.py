"""A request, and its work, that makes a step whenever it is let go on, from another process too: by files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bothways.runs import RunFolder
from bothways.types import Frame


def wait(until: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it became true in this time."""
    for _ in range(int(seconds * 100)):
        if until():
            return True
        threading.Event().wait(0.01)
    return until()


@dataclass
class Held:
    """signs: a folder of its own, in which files say how far it is and how far it may go."""

    signs: Path
    kind: str = "held"
    steps: int = 3

    def __post_init__(self) -> None:
        self.signs.mkdir(parents=True, exist_ok=True)

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            (self.signs / f"step-{len(list(self.signs.glob('step-*')))}").touch()

    @property
    def begun(self) -> bool:
        return (self.signs / "begun").exists()

    @property
    def closed(self) -> bool:
        return (self.signs / "closed").exists()

    def prepare(self, out: Path) -> Held:
        self.folder = RunFolder.create(out, {"task": "held", "settings": {}})
        return self

    def captions(self, work: Held) -> list[dict[int, str]]:
        return [{0: "one"}]

    def run(self) -> Iterator[Frame]:
        try:
            for step in range(1, 4):
                (self.signs / "begun").touch()
                while len(list(self.signs.glob("step-*"))) < step:
                    threading.Event().wait(0.01)
                yield Frame(step, step / 3, torch.full((1, 3, 2, 2), step / 3))
        finally:
            (self.signs / "closed").touch()

    def finish(self) -> None:
        self.folder.write_status("complete")
