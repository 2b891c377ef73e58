"""Where a tab watches its job: how far it is, the pictures as they are now, Stop and Again. It never does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from bothways.studio import fragments
from bothways.studio.jobs import Job, Jobs, Request
from bothways.types import UserError

SECONDS_BETWEEN_LOOKS = 0.7
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Render = Callable[..., tuple[str, str]]
"""(job, *what else the tab knows) -> the pictures as HTML, and what stands below them"""


@dataclass(frozen=True)
class Pane:
    """The parts of a pane. name: of the job that is watched; seen: its state and step when it was last shown.

    seeded: whether its work has seeds, so that it can be done again with new ones.
    """

    jobs: Jobs
    render: Render
    name: gr.State
    seen: gr.State
    timer: gr.Timer
    status: gr.HTML
    pictures: gr.HTML
    below: gr.HTML
    stop: gr.Button
    again: gr.Button
    seeded: bool

    @property
    def parts(self) -> list[Any]:
        """What ``show`` and ``complain`` give values for, in this order."""
        return [self.name, self.seen, self.timer, self.status, self.pictures, self.below, self.stop, self.again]

    def show(self, job: Job | None, *extras: Any) -> list[Any]:
        """Everything anew."""
        active, seen = job is not None and job.active, _marker(job)  # before it is read: what comes after is news
        before = self.jobs.before(job) if job is not None and job.state == "waiting" else 0
        return [
            job.name if job else None,
            seen,
            gr.Timer(active=active),
            fragments.status(job, before),
            *self.render(job, *extras),
            gr.Button(visible=active),
            gr.Button(visible=self.seeded and job is not None and not active),
        ]

    def complain(self, error: Exception) -> list[Any]:
        """A mistake in a sentence; what is shown stays."""
        return [fragments.note(str(error), alert=True) if part is self.status else gr.skip() for part in self.parts]

    def start(self, ask: Callable[[], Request], *extras: Any) -> list[Any]:
        """Queue what the form asks for and watch it, or say what is wrong with it."""
        try:
            return self.show(self.jobs.submit(ask()), *extras)
        except UserError as error:
            return self.complain(error)

    def wire(self, page: gr.Blocks, kind: str, seed: gr.Number | None = None, extras: Sequence[Any] = ()) -> None:
        """Look at the job now and then, stop it, ask it again, and find it when the page is opened."""

        def look(name: str | None, seen: str, *known: Any) -> list[Any]:
            job = self.jobs.find(name) if name else None
            return [gr.skip()] * len(self.parts) if _marker(job) == seen else self.show(job, *known)

        def end(name: str | None, *known: Any) -> list[Any]:
            job = self.jobs.find(name) if name else None
            if job is not None:
                job.stop()
            return self.show(job, *known)

        def repeat(name: str | None) -> list[Any]:
            job = self.jobs.find(name) if name else None
            if job is None:
                return [*self.show(None), gr.skip()]
            request: Any = job.request
            request = request.again()
            return [*self.start(lambda: request), request.values["seed"]]

        def find(*known: Any) -> list[Any]:
            return self.show(self.jobs.latest(kind), *known)

        self.timer.tick(look, [self.name, self.seen, *extras], self.parts, queue=False, **QUIET)
        self.stop.click(end, [self.name, *extras], self.parts, queue=False, **QUIET)
        page.load(find, list(extras), self.parts, **QUIET)
        if seed is not None:
            self.again.click(repeat, self.name, [*self.parts, seed], **QUIET)


def _marker(job: Job | None) -> str:
    return "" if job is None else f"{job.name} {job.state} {job.step}"


def build_pane(jobs: Jobs, kind: str, render: Render, *, seeded: bool = True) -> Pane:
    """Lay a pane out, here and now. Arguments as of ``Pane``."""
    status = gr.HTML(elem_id=f"{kind}-status", js_on_load=None)
    with gr.Row(elem_classes="bw-buttons"):
        stop = gr.Button("Stop", visible=False, size="sm", elem_id=f"{kind}-stop", min_width=120)
        again = gr.Button("Again with new seeds", visible=False, size="sm", elem_id=f"{kind}-again", min_width=120)
    pictures = gr.HTML(elem_id=f"{kind}-pictures", js_on_load=None)
    below = gr.HTML(elem_id=f"{kind}-below", js_on_load=None)
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    return Pane(jobs, render, gr.State(None), gr.State(""), timer, status, pictures, below, stop, again, seeded)
