"""The tab Explain: the audit of a classifier, whose page is the report of its run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gradio as gr

from bothways.runs import RunFolder
from bothways.studio import fragments
from bothways.studio.jobs import Job, Jobs
from bothways.studio.pane import QUIET, build_pane
from bothways.studio.requests import description, explain_request
from bothways.studio.tabs.generate import build_model, build_weights, learned, taken
from bothways.tasks.explain.config import ExplainConfig

EMPTY = "Choose a model and labelled real pictures, and press Explain; the pictures must not have the shortcut."
PORTRAITS, REAL = (ExplainConfig.model_fields[name].default for name in ("n", "real"))
described = partial(description, "explain")


def audited(job: Job | None) -> tuple[str, str]:
    """HTML of the portraits, then of the classes by their consistency."""
    complete = job is not None and job.state == "complete"
    return fragments.pictures(job, EMPTY), fragments.audited(RunFolder(job.folder)) if job and complete else ""


def build_tab(page: gr.Blocks, jobs: Jobs, weights: Path) -> None:
    """Create the components and handlers of the tab. weights: the folder for those that are uploaded."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model, trouble, classes, prompts = build_model("explain", described("classes"))
            data = gr.Textbox("", label="Real pictures", info=described("data"), elem_id="explain-data")
            with gr.Row(elem_classes="bw-numbers"):
                n = gr.Number(PORTRAITS, label="Portraits", info=described("n"), precision=0, min_width=110)
                steps = gr.Number(0, label="Steps", info="0 for those of the recipes", precision=0, min_width=110)
            with gr.Accordion("More settings", open=False):
                real = gr.Number(REAL, label="Maximum real pictures", info=described("real"), precision=0)
                seed = gr.Number(0, label="Seed", info=described("seed"), precision=0)
                own, given = build_weights("explain")
            start = gr.Button("Explain", variant="primary", elem_id="explain-start")
        with gr.Column(scale=3, min_width=300):
            pane = build_pane(jobs, "explain", audited)
    told = [classes, prompts, trouble]
    pane.wire(page, seed)
    model.input(learned, [model, own], told, **QUIET)
    for done in (own.blur, own.submit):
        done(learned, [model, own], told, **QUIET)
    given.upload(partial(taken, weights), [model, given], [given, own, *told], **QUIET)
    asked = [model, data, classes, n, real, steps, seed, own]
    start.click(lambda *values: pane.start(lambda: explain_request(*values)), asked, pane.parts, **QUIET)
