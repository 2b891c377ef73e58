"""The tab Walk: a photo walked to noise and back along a flow, with a slider over depth."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from torch import Tensor

from bothways.models.cards import classifier_cards, flow_cards
from bothways.report.sections import fitting, measures_of
from bothways.runs import RunFolder
from bothways.studio import fragments
from bothways.studio.jobs import Job, Jobs
from bothways.studio.pane import QUIET, build_pane
from bothways.studio.requests import Request, description, number
from bothways.studio.shelf import Shelf
from bothways.studio.tabs.photo import FILES, taken
from bothways.tasks.walk.config import WalkConfig
from bothways.types import UserError

STEPS, LIMIT = (WalkConfig.model_fields[name].default for name in ("steps", "limit"))


described = partial(description, "walk")


def ask(flow: str | None, photo: Tensor | None, steps: float | None, data: str | None, limit: float | None) -> Request:
    """Build the request from the values of the form. Raises UserError."""
    if not flow:
        raise UserError("no flow was chosen; choose one, such as bundled:cifar10-prg")
    if photo is None:
        raise UserError("no photo was given; choose one")
    numbers = {
        "steps": number("Steps each way", steps, 1, 500, unset=STEPS),
        "limit": number("Maximum pictures", limit, 1, 5000, unset=LIMIT),
    }
    values = {"flow": flow, "photo": photo, **numbers}
    request = Request("walk", "walk", {**values, "data": (data or "").strip() or None})
    request.check()
    return request


def flows(shelf: Shelf) -> list[str]:
    """The addresses of the bundled flows, flow classifiers first, then the runs."""
    return [*(f"bundled:{facts['name']}" for facts in (*classifier_cards(), *flow_cards())), *shelf.flows()]


def walked(job: Job | None, depth: float) -> tuple[str, str]:
    """HTML of the current picture while it runs, then of the states at a depth, there and back."""
    if job is None or job.state != "complete":
        return fragments.pictures(job, "Choose a photo and press Walk; then move the slider."), ""
    folder = RunFolder(job.folder)
    with fitting(folder):
        steps = len(measures_of(folder)["walk"]["depths"]) - 1
        return fragments.walk(folder, round(depth * steps), job.name), ""


def build_tab(page: gr.Blocks, jobs: Jobs, shelf: Shelf) -> gr.Dropdown:
    """Create the components and handlers of the tab; return the dropdown of flows, for updates after new runs."""
    known = flows(shelf)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            flow = gr.Dropdown(known, value=known[0], allow_custom_value=True, label="Flow", info=described("flow"))
            file = gr.File(label="Photo", file_types=FILES, height=140, elem_id="walk-file")
            photo, shown = gr.State(None), gr.HTML(js_on_load=None)
            steps = gr.Number(STEPS, label="Steps each way", precision=0)
            with gr.Accordion("Nearest pictures", open=False):
                data = gr.Textbox(label="Data", info=described("data"))
                limit = gr.Number(LIMIT, label="Maximum pictures", info=described("limit"), precision=0)
            start = gr.Button("Walk", variant="primary", elem_id="walk-start")
        with gr.Column(scale=3, min_width=300):
            depth = gr.Slider(
                0, 1, value=0, step=0.01, label="Depth", info="0 is the picture, 1 is noise", elem_id="walk-depth"
            )
            pane = build_pane(jobs, "walk", walked, seeded=False)

    def move(name: str | None, depth: float) -> str:
        return walked(jobs.find(name) if name else None, depth)[0]

    def begin(depth: float, *values: Any) -> list[Any]:
        return pane.start(lambda: ask(*values), depth)

    pane.wire(page, extras=[depth])
    file.upload(partial(taken, fragments.single), file, [photo, shown, file], **QUIET)
    start.click(begin, [depth, flow, photo, steps, data, limit], pane.parts, **QUIET)
    depth.change(move, [pane.name, depth], pane.pictures, queue=False, trigger_mode="always_last", **QUIET)
    page.load(lambda: gr.Dropdown(flows(shelf)), None, flow, **QUIET)
    return flow
