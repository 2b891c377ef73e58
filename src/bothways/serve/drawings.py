"""Drawings for visitors: jobs in a bounded queue, each in a process of its own, known by an identifier alone.

A visitor names a model of the service, classes or prompts, a recipe of the package and a few numbers, nothing else. The
newest KEPT that have ended are kept; folders of the others are removed where the service made up their place.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.runs import RunFolder, to_png
from bothways.serve.models import Served
from bothways.studio.jobs import Job, Jobs
from bothways.studio.requests import Request
from bothways.tasks.recipes import recipes
from bothways.types import UserError

PICTURES_AT_MOST = 64  # of a job
STEPS_AT_MOST = 2000
KEPT = 50
BEHIND = 10  # how much less of the processor a drawing is given than the answers to other requests


@dataclass(frozen=True)
class Drawn(Request):
    """A drawing that gives way to the requests that are answered meanwhile."""

    def prepare(self, out: Path) -> Any:
        os.nice(BEHIND)
        return super().prepare(out)


def request_of(
    model: Served, classes: list[str], prompts: list[str], recipe: str | None, n: int, steps: int | None, seed: int,
    device: str, dtype: str,
) -> Drawn:  # fmt: skip
    """The request of a visitor. Raises UserError for what the model or the service does not do."""
    if model.model is None:
        raise UserError(f"model {model.name!r} draws nothing, it is a flow; ask another model")
    if recipe is not None and recipe not in recipes():
        raise UserError(f"there is no recipe {recipe!r}; send {', '.join(recipes())}")
    if prompts and not model.model.reads_text:
        raise UserError(f"model {model.name!r} reads no text; send classes in place of prompts")
    labels = model.numbers(classes)
    if (count := n * max(1, len(labels))) > PICTURES_AT_MOST:
        raise UserError(f"{count} pictures are more than the {PICTURES_AT_MOST} of a job; send fewer classes or n")
    values = {"model": model.address, "n": n, "seed": seed, "device": device, "dtype": dtype}
    values |= {"classes": model.words(labels)} if labels else {}
    values |= {"prompts": prompts} if prompts else {}
    values |= {"steps": steps} if steps else {}
    return Drawn("generate", "generate", {**values, "recipe": recipe})


class Drawings:
    """The jobs of a service. runs: where their folders go; owned: whether folders of jobs that are let go are removed.

    minutes: the most that one may take.
    """

    def __init__(self, runs: Path, minutes: float, *, owned: bool) -> None:
        self._jobs = Jobs(runs, minutes, ready=True, kept=KEPT)
        self._owned, self._named, self._naming = owned, dict[str, Job](), threading.Lock()

    def submit(self, request: Drawn) -> str:
        """Queue it; the identifier of the job. Raises FullError (of ``studio.jobs``) where too many wait."""
        with self._naming:
            job = self._jobs.submit(request)
            name = secrets.token_urlsafe(12)
            kept = {one.name for one in self._jobs.all}
            gone = {known: old for known, old in self._named.items() if old.name not in kept}
            self._named = {known: old for known, old in self._named.items() if known not in gone} | {name: job}
        for old in gone.values() if self._owned else ():
            shutil.rmtree(old.folder, ignore_errors=True)
        return name

    def find(self, name: str) -> Job | None:
        return self._named.get(name)

    def counts(self) -> dict[str, int]:
        """{"waiting": ..., "running": ...}: jobs that have not ended."""
        states = [job.state for job in self._jobs.all if job.active]
        return {"waiting": states.count("waiting"), "running": len(states) - states.count("waiting")}

    def facts(self, name: str, job: Job) -> dict[str, Any]:
        """How a job stands, for its visitor."""
        shown = [
            {"number": number, "caption": job.captions.get(number, ""), "address": f"/jobs/{name}/pictures/{number}"}
            for number in sorted(job.pictures)
        ]
        message = job.message.replace(str(job.folder), "the run")
        ahead = self._jobs.before(job) if job.state == "waiting" else 0
        return {
            "id": name, "state": job.state, "message": message, "doing": job.doing, "ahead": ahead, "step": job.step,
            "steps": job.total, "seconds": round(job.seconds, 3), "notes": list(job.notes), "pictures": shown,
        }  # fmt: skip

    @staticmethod
    def picture(job: Job, number: int) -> bytes | None:
        """A picture as PNG: as it is now, or of a job that has ended as its run keeps it."""
        if number not in job.pictures:
            return None
        if job.state == "complete":
            folder = RunFolder.open(job.folder)
            record = next((one for one in folder.pictures if one["index"] == number), None)
            if record is not None:
                return to_png(folder.read_picture(record))
        return to_png(job.pictures[number])

    def close(self) -> None:
        """Stop all, so that every folder is whole."""
        self._jobs.close()
