"""The tab Generate: draw pictures of classes, of prompts, or unconditionally."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from bothways import registry
from bothways.runs import RunFolder
from bothways.studio import fragments
from bothways.studio.files.weights import SUFFIXES, keep_weights
from bothways.studio.jobs import Job, Jobs
from bothways.studio.models import MODEL, about, bundled, layers_of
from bothways.studio.pane import QUIET, Pane, Render, build_pane
from bothways.studio.requests import Request, description, draw_request
from bothways.studio.shelf import Form
from bothways.tasks.recipes import recipes
from bothways.types import RunError, UserError

MODEL_INFO = "A bundled model or an address: timm:NAME, hf:NAME, clip:NAME, FILE.py:FUNCTION, FOLDER/NAME.json"
CHANGES_INFO = "One NAME=VALUE per line, such as ascent.rms=0.04"
EMPTY = "Choose classes and press Draw; without classes the pictures are unconditional."
SUITED = "default for the subject"


@dataclass(frozen=True)
class Fields:
    """The components of the form, in the order of the arguments of ``ask``."""

    model: gr.Dropdown
    classes: gr.Dropdown
    prompts: gr.Textbox
    recipe: gr.Dropdown
    n: gr.Number
    steps: gr.Number
    seed: gr.Number
    data: gr.Textbox
    changes: gr.Textbox
    weights: gr.Textbox
    layer: gr.Dropdown
    channel: gr.Textbox
    gif: gr.Checkbox
    given: gr.File
    trouble: gr.HTML

    @property
    def all(self) -> list[Any]:
        return [
            self.model,
            self.classes,
            self.prompts,
            self.recipe,
            self.n,
            self.steps,
            self.seed,
            self.data,
            self.changes,
            self.weights,
            self.layer,
            self.channel,
            self.gif,
        ]


def ask(
    model: str | None, classes: list[str], prompts: str, recipe: str, n: float | None, steps: float | None,
    seed: float | None, data: str, changes: str, weights: str, layer: str | None, channel: str,
    gif: bool = False,
) -> Request:  # fmt: skip
    """Build the request from the values of the form. Raises UserError."""
    name = None if recipe == SUITED else recipe
    return draw_request(model, classes, prompts, name, n, steps, seed, data, changes, weights, layer, channel, gif=gif)


def described(name: str) -> str:
    """The description of a setting of ``generate``."""
    return description("generate", name)


def build_model(kind: str, of_classes: str = "") -> tuple[gr.Dropdown, gr.HTML, gr.Dropdown, gr.Textbox]:
    """The components for the model, its error message, its classes and prompts."""
    model = gr.Dropdown(
        bundled(), value=MODEL, allow_custom_value=True, label="Model", info=MODEL_INFO, elem_id=f"{kind}-model"
    )
    trouble = gr.HTML(js_on_load=None)
    classes = gr.Dropdown(
        list(about(MODEL).classes), multiselect=True, allow_custom_value=True, label="Classes",
        info=of_classes or described("classes"),
    )  # fmt: skip
    prompts = gr.Textbox(label="Prompts", lines=2, visible=False, info=f"{described('prompts')}; one per line")
    return model, trouble, classes, prompts


def build_numbers(count: int) -> tuple[gr.Number, gr.Number, gr.Number]:
    """The components for the number of pictures, the steps and the seed."""
    with gr.Row(elem_classes="bw-numbers"):
        n = gr.Number(count, label="Count", info=described("n"), precision=0, min_width=90)
        steps = gr.Number(
            0,
            label="Steps",
            info=f"{described('ascent.steps')}; 0 for the number set by the recipe",
            precision=0,
            min_width=90,
        )
        seed = gr.Number(0, label="Seed", info=described("seed"), precision=0, min_width=90)
    return n, steps, seed


def build_form() -> Fields:
    """Create the form in the current layout."""
    model, trouble, classes, prompts = build_model("generate")
    named = [(f"{name}: {text}", name) for name, text in recipes().items() if name not in registry.entries("task")]
    recipe = gr.Dropdown(
        [SUITED, *named], value=SUITED, allow_custom_value=True, label="Recipe", info="One of these, or a .toml file"
    )
    n, steps, seed = build_numbers(2)
    gif = gr.Checkbox(False, label="GIF", info=described("share.gif"), elem_id="generate-gif")
    with gr.Accordion("Layers", open=False):
        layer, channel, listing, table = build_layers()
    with gr.Accordion("More settings", open=False):
        data = gr.Textbox("", label="Real pictures", info=described("data"))
        weights, given = build_weights("generate")
        changes = gr.Textbox("", label="Other settings", lines=4, info=CHANGES_INFO)
    listing.click(listed, [model, weights], [table, layer], **QUIET)
    return Fields(
        model,
        classes,
        prompts,
        recipe,
        n,
        steps,
        seed,
        data,
        changes,
        weights,
        layer,
        channel,
        gif,
        given,
        trouble,
    )


def build_layers() -> tuple[gr.Dropdown, gr.Textbox, gr.Button, gr.HTML]:
    """The components for a layer, its channels, the button that lists the layers, and the list."""
    with gr.Row():
        layer = gr.Dropdown(
            [], value=None, allow_custom_value=True, label="Layer", info="Instead of Classes",
            elem_id="generate-layer", min_width=120,
        )  # fmt: skip
        channel = gr.Textbox(
            "", label="Channel", info="Such as 3 17; none for all",
            elem_id="generate-channel", min_width=120,
        )  # fmt: skip
    listing = gr.Button("List the layers of the model", size="sm", elem_id="generate-layers")
    return layer, channel, listing, gr.HTML(elem_id="generate-layer-table", js_on_load=None)


def listed(model: str | None, weights: str | None) -> list[Any]:
    """Updates of [table, layer] when the layers are listed."""
    try:
        rows = layers_of(model, weights)
    except (UserError, RunError) as error:
        return [fragments.note(str(error), "generate", alert=True), gr.skip()]
    return [fragments.layers(rows), gr.Dropdown([row.name for row in rows if row.shape])]


def build_weights(kind: str) -> tuple[gr.Textbox, gr.File]:
    """The controls for the weights of a model whose file leaves them open: where they lie, or an upload."""
    info = f"{described('weights')}: upload it below, or name a file that --allow lets in"
    weights = gr.Textbox("", label="Weights", info=info, elem_id=f"{kind}-weights")
    given = gr.File(label="Upload weights", file_types=list(SUFFIXES), height=140, elem_id=f"{kind}-weights-file")
    return weights, given


def taken(folder: Path, model: str | None, file: str) -> list[Any]:
    """Updates of [cleared file input, weights, classes, prompts, trouble] when a file of weights is chosen."""
    try:
        weights = str(keep_weights(file, folder))
    except UserError as error:
        return [None, *[gr.skip()] * 3, fragments.note(str(error), alert=True)]
    return [None, weights, *learned(model, weights)]


def learned(model: str | None, weights: str | None) -> list[Any]:
    """Updates of [classes, prompts, trouble] when the model or its weights change."""
    try:
        found = about(model or "", (weights or "").strip() or None)
    except (UserError, RunError) as error:
        return [gr.Dropdown([], value=[]), gr.skip(), fragments.note(str(error), alert=True)]
    classes = gr.Dropdown(list(found.classes), value=[], visible=bool(found.classes) or not found.reads_text)
    return [classes, gr.Textbox(visible=found.reads_text), ""]


def drawn(job: Job | None) -> tuple[str, str]:
    """HTML of the pictures and of the judge metrics."""
    shown = fragments.pictures(job, EMPTY)
    if job is None or job.state != "complete":
        return shown, ""
    folder = RunFolder(job.folder)
    return shown, fragments.downloads(job.name, folder) + fragments.verdicts(folder)


def refilled(form: Form) -> list[Any]:
    """Values of ``Fields.all`` up to the weights."""
    prompts = "\n".join(form.prompts)
    try:
        found = about(form.model, form.weights or None)
    except (UserError, RunError):  # the model may be gone; submitting the form shows the error
        names, reads_text = list(form.classes), bool(prompts)
    else:
        names, reads_text = list(found.classes), found.reads_text
    classes = gr.Dropdown(names, value=list(form.classes))
    text = gr.Textbox(prompts, visible=reads_text)
    return [
        form.model,
        classes,
        text,
        form.recipe,
        form.n,
        form.steps,
        form.seed,
        form.data,
        form.changes,
        form.weights,
    ]


def build_drawing(
    page: gr.Blocks, jobs: Jobs, kind: str, word: str, form: Callable[[], Any], ask: Callable[..., Request],
    render: Render, weights: Path, js: str | None = None,
) -> tuple[Any, Pane]:  # fmt: skip
    """Lay out and wire a form of a drawing with the button that starts it, and the pane beside it.

    word: on the button. weights: the folder for those that are uploaded. js: what the page does to the form's values
    before they are sent.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            fields = form()
            start = gr.Button(word, variant="primary", elem_id=f"{kind}-start")
        with gr.Column(scale=3, min_width=300):
            pane = build_pane(jobs, kind, render)

    pane.wire(page, fields.seed)
    told = [fields.classes, fields.prompts, fields.trouble]
    fields.model.input(learned, [fields.model, fields.weights], told, **QUIET)
    for done in (fields.weights.blur, fields.weights.submit):  # not while it is typed: the model is read for it
        done(learned, [fields.model, fields.weights], told, **QUIET)
    uploaded = [fields.given, fields.weights, *told]
    fields.given.upload(partial(taken, weights), [fields.model, fields.given], uploaded, **QUIET)
    start.click(lambda *values: pane.start(lambda: ask(*values)), fields.all, pane.parts, js=js, **QUIET)
    return fields, pane


def build_tab(page: gr.Blocks, jobs: Jobs, weights: Path) -> tuple[Fields, Pane]:
    """Lay the tab out and wire it."""
    return build_drawing(page, jobs, "generate", "Draw", build_form, ask, drawn, weights)
