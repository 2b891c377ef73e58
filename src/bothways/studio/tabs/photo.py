"""The tab Photo: the tasks on a photo, with a brush for the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from bothways.runs import RunFolder
from bothways.studio import fragments
from bothways.studio.jobs import Job, Jobs
from bothways.studio.pane import QUIET, Pane
from bothways.studio.requests import Request, description, photo_request, photo_tasks, read_box, takes
from bothways.studio.shelf import Form
from bothways.studio.tabs.generate import (
    CHANGES_INFO,
    build_drawing,
    build_model,
    build_numbers,
    build_weights,
    described,
    refilled,
)
from bothways.studio.uploads import FORMATS, read_mask, read_upload
from bothways.types import UserError

TASKS = photo_tasks()
FILES = [f".{name.lower()}" for name in (*FORMATS, "jpg")]
# The mask is a canvas of the page: its pixels replace the value of the mask just before the form is submitted.
WITH_MASK = """(...values) => {
  const canvas = document.querySelector("#photo-mask:not(.bw-unmasked) canvas");
  values[2] = canvas ? canvas.toDataURL("image/png") : "";
  return values;
}"""


@dataclass(frozen=True)
class Fields:
    """The components of the form, in the order of the arguments of ``ask``, with files and the canvas."""

    task: gr.Radio
    photo: gr.State
    mask: gr.Textbox
    box: gr.Textbox
    style: gr.State
    model: gr.Dropdown
    classes: gr.Dropdown
    prompts: gr.Textbox
    n: gr.Number
    steps: gr.Number
    seed: gr.Number
    data: gr.Textbox
    changes: gr.Textbox
    weights: gr.Textbox
    given: gr.File
    trouble: gr.HTML
    file: gr.File
    ground: gr.HTML
    painting: gr.File
    painted: gr.HTML

    @property
    def all(self) -> list[Any]:
        return [
            self.task, self.photo, self.mask, self.box, self.style, self.model, self.classes, self.prompts, self.n,
            self.steps, self.seed, self.data, self.changes, self.weights,
        ]  # fmt: skip


def ask(
    task: str, photo: Tensor | None, mask: str, box: str, style: Tensor | None, model: str | None, classes: list[str],
    prompts: str, n: float | None, steps: float | None, seed: float | None, data: str, changes: str,
    weights: str,
) -> Request:  # fmt: skip
    """Build the request from the values of the form. Raises UserError."""
    if photo is None:
        raise UserError("no photo was given; choose one")
    where = read_box(box)
    painted = read_mask(mask, (photo.shape[-2], photo.shape[-1])) if mask and where is None else None
    return photo_request(
        TASKS[task], photo, painted, where, style, model, classes or (), prompts, n, steps, seed, data, changes, weights
    )


def build_form() -> Fields:
    """Create the form in the current layout."""
    task = gr.Radio(list(TASKS), value="Edit", label="Task", elem_id="photo-task")
    file = gr.File(label="Photo", file_types=FILES, height=140, elem_id="photo-file")
    ground = gr.HTML(
        elem_id="photo-mask", js_on_load=resources.files("bothways.studio").joinpath("paint.js").read_text()
    )
    painting = gr.File(label="Style picture", file_types=FILES, height=140, visible=False)
    painted = gr.HTML(js_on_load=None)
    model, trouble, classes, prompts = build_model("photo")
    n, steps, seed = build_numbers(1)
    with gr.Accordion("More settings", open=False):
        box = gr.Textbox(
            label="Box instead of a mask",
            info=f"{description('edit', 'box')}: left, top, right, bottom, such as 8 8 20 20",
        )
        data = gr.Textbox("", label="Real pictures", info=described("data"))
        weights, given = build_weights("photo")
        changes = gr.Textbox("", label="Other settings", lines=4, info=CHANGES_INFO)
    mask = gr.Textbox("", visible=False, label="Mask")
    return Fields(
        task, gr.State(None), mask, box, gr.State(None), model, classes, prompts, n, steps, seed, data, changes,
        weights, given, trouble, file, ground, painting, painted,
    )  # fmt: skip


def taken(show: Callable[[Tensor], str], file: str) -> list[Any]:
    """Updates of [picture, its HTML, cleared file input] when a file is chosen."""
    try:
        picture = read_upload(file)
    except UserError as error:
        return [None, fragments.note(str(error), alert=True), None]
    return [picture, show(picture), None]


def shaped(task: str) -> list[Any]:
    """Updates of [classes, painting, box, canvas] when the task changes: inputs that it does not take are hidden.

    Of the canvas the photo stays; what was painted is kept for a task that takes it.
    """
    names = ("classes", "style", "box", "mask")
    classes, style, box, mask = (takes(TASKS[task], name) for name in names)
    ground = gr.HTML(elem_classes=[] if mask else ["bw-unmasked"])
    return [gr.Dropdown(visible=classes), gr.File(visible=style), gr.Textbox(visible=box), ground]


def drawn(job: Job | None) -> tuple[str, str]:
    """HTML of the pictures while they are drawn, then of each photo before and after."""
    if job is None or job.state not in ("complete", "stopped") or not (job.folder / "pictures.jsonl").exists():
        words = "Choose a photo and a task. Edit and Inpaint change painted pixels alone; Edit without a mask, any."
        return fragments.pictures(job, words), ""
    folder = RunFolder(job.folder)
    return fragments.changes(folder), fragments.downloads(job.name, folder) + fragments.verdicts(folder)


def loaded(form: Form, folder: RunFolder) -> list[Any]:
    """Values of ``Fields.all`` except mask and style, then of the canvas, from a run."""
    photo = next(iter(folder.read_given("photo")), None)
    task = next(name for name, value in TASKS.items() if value == form.task)
    model, classes, prompts, _, n, steps, seed, data, changes, weights = refilled(form)
    ground = "" if photo is None else fragments.painter(photo)
    return [task, photo, model, classes, prompts, n, steps, seed, data, changes, weights, ground]


def build_tab(page: gr.Blocks, jobs: Jobs, weights: Path) -> tuple[Fields, Pane]:
    """Lay the tab out and wire it."""
    fields, pane = build_drawing(page, jobs, "photo", "Start", build_form, ask, drawn, weights, js=WITH_MASK)
    for file, kept, shown, show in (
        (fields.file, fields.photo, fields.ground, fragments.painter),
        (fields.painting, fields.style, fields.painted, fragments.single),
    ):
        file.upload(partial(taken, show), file, [kept, shown, file], **QUIET)
    fields.task.change(shaped, fields.task, [fields.classes, fields.painting, fields.box, fields.ground], **QUIET)
    return fields, pane
