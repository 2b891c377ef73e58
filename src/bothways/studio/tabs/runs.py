"""The tab Runs: all run folders, one or two in detail, and their settings loaded into a form."""

from __future__ import annotations

from typing import Any

import gradio as gr

from bothways.studio import fragments
from bothways.studio.pane import QUIET
from bothways.studio.shelf import Shelf
from bothways.studio.tabs import generate as of_drawing
from bothways.studio.tabs import photo as of_photo
from bothways.types import UserError

CHOOSE = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button) trigger("click", { run: button.dataset.run });
});"""


def listed(shelf: Shelf) -> list[Any]:
    """Updates of [cards, run, other] for the current runs."""
    runs = shelf.runs()
    return [fragments.cards(runs), gr.Dropdown(list(runs)), gr.Dropdown(list(runs))]


def compared(shelf: Shelf, run: str | None, other: str | None) -> str:
    """HTML of one run, or of two side by side."""
    names = list(dict.fromkeys(name for name in (run, other) if name))
    try:
        return fragments.beside({name: shelf.run(name) for name in names}) if names else ""
    except UserError as error:
        return fragments.note(str(error), alert=True)


def build_tab(tab: gr.Tab, shelf: Shelf, tabs: gr.Tabs, drawing: of_drawing.Fields, photo: of_photo.Fields) -> None:
    """Create the components and handlers of the tab."""
    cards = gr.HTML(elem_id="runs-cards", js_on_load=CHOOSE)
    with gr.Row():
        run = gr.Dropdown([], value=None, label="Run", elem_id="runs-run")
        other = gr.Dropdown([], value=None, label="Compare with", elem_id="runs-other")
        back = gr.Button("Load settings into the form", elem_id="runs-load")
    trouble = gr.HTML(js_on_load=None)
    shown = gr.HTML(elem_id="runs-shown", js_on_load=None)

    filled = [photo.task, photo.photo, photo.model, photo.classes, photo.prompts, photo.n, photo.steps, photo.seed]
    filled += [photo.data, photo.changes, photo.weights, photo.ground]

    def choose(event: gr.EventData) -> str:
        return event.run

    def load(name: str | None) -> list[Any]:
        kept, kept_photo = [gr.skip()] * len(drawing.all), [gr.skip()] * len(filled)
        try:
            if not name:
                raise UserError("no run was chosen; choose one")
            folder, form = shelf.run(name), shelf.form(name)
            if form.task == "generate":
                channels = " ".join(map(str, form.channels))
                kept = [*of_drawing.refilled(form), form.layer, channels, form.gif]
                return ["", gr.Tabs(selected="generate"), *kept, *kept_photo]
            if form.task in of_photo.TASKS.values():
                return ["", gr.Tabs(selected="photo"), *kept, *of_photo.loaded(form, folder)]
            raise UserError(f"there is no form for {form.task}; type bothways {form.task} in a terminal")
        except UserError as error:
            return [fragments.note(str(error), alert=True), gr.skip(), *kept, *kept_photo]

    tab.select(lambda: listed(shelf), None, [cards, run, other], **QUIET)
    cards.click(choose, None, run, **QUIET)
    for chosen in (run, other):
        chosen.change(lambda *names: compared(shelf, *names), [run, other], shown, **QUIET)
    back.click(load, run, [trouble, tabs, *drawing.all, *filled], **QUIET)
