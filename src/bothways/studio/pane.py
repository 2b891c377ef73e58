"""The pane of a tab that shows its job: status, current pictures, and the buttons Stop and Again."""

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
"""(job, *other inputs of the tab) -> (HTML of the pictures, HTML below them)"""


@dataclass(frozen=True)
class Pane:
    """The components of a pane.

    kind: the tab. name: of the job shown. seen: its state and step when last shown. seeded: whether the job has seeds,
    so that it can be repeated with new ones.
    """

    jobs: Jobs
    kind: str
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
        """The components that ``show`` and ``show_error`` update, in this order."""
        return [self.name, self.seen, self.timer, self.status, self.pictures, self.below, self.stop, self.again]

    def show(self, job: Job | None, *extras: Any) -> list[Any]:
        """Updates of all components for a job. extras: other inputs of the tab."""
        # Taken first, so that a change during rendering is shown at the next tick.
        seen = self.marker(job)
        active = job is not None and job.active
        return [
            job.name if job else None,
            seen,
            gr.Timer(active=active),
            fragments.status(job, self._before(job)),
            *self.render(job, *extras),
            gr.Button(visible=active),
            gr.Button(visible=self.seeded and job is not None and not active),
        ]

    def marker(self, job: Job | None) -> str:
        """What is shown of a job: where it changes, the job is shown anew."""
        return "" if job is None else f"{job.name} {job.state} {job.step} {job.doing} {self._before(job)}"

    def _before(self, job: Job | None) -> int:
        """The number of jobs that a waiting one waits for."""
        return self.jobs.before(job) if job is not None and job.state == "waiting" else 0

    def show_error(self, error: Exception) -> list[Any]:
        """Updates that show an error message and leave the rest as it is."""
        text = fragments.note(str(error), self.kind, alert=True)
        return [text if part is self.status else gr.skip() for part in self.parts]

    def start(self, ask: Callable[[], Request], *extras: Any) -> list[Any]:
        """Queue the request of the form and show its job, or show the error."""
        try:
            return self.show(self.jobs.submit(ask()), *extras)
        except UserError as error:
            return self.show_error(error)

    def wire(self, page: gr.Blocks, seed: gr.Number | None = None, extras: Sequence[Any] = ()) -> None:
        """Connect the handlers: polling, Stop, Again, and the latest job on page load."""

        def look(name: str | None, seen: str, *known: Any) -> list[Any]:
            job = self.jobs.find(name) if name else None
            return [gr.skip()] * len(self.parts) if self.marker(job) == seen else self.show(job, *known)

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
            return self.show(self.jobs.latest(self.kind), *known)

        self.timer.tick(look, [self.name, self.seen, *extras], self.parts, queue=False, **QUIET)
        self.stop.click(end, [self.name, *extras], self.parts, queue=False, **QUIET)
        page.load(find, list(extras), self.parts, **QUIET)
        if seed is not None:
            self.again.click(repeat, self.name, [*self.parts, seed], **QUIET)


def build_pane(jobs: Jobs, kind: str, render: Render, *, seeded: bool = True) -> Pane:
    """Create the components of a pane in the current layout. Arguments as of ``Pane``."""
    status = gr.HTML(elem_id=f"{kind}-status", js_on_load=None)
    with gr.Row(elem_classes="bw-buttons"):
        stop = gr.Button("Stop", visible=False, size="sm", elem_id=f"{kind}-stop", min_width=120)
        again = gr.Button("Again with new seeds", visible=False, size="sm", elem_id=f"{kind}-again", min_width=120)
    pictures = gr.HTML(elem_id=f"{kind}-pictures", js_on_load=None)
    below = gr.HTML(elem_id=f"{kind}-below", js_on_load=None)
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    return Pane(jobs, kind, render, gr.State(None), gr.State(""), timer, status, pictures, below, stop, again, seeded)
