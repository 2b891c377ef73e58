"""The tab Predict: the most probable classes of a picture, by a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from torch import Tensor

from bothways.studio import fragments
from bothways.studio.files.weights import keep_weights
from bothways.studio.models import MODEL, classifiers, predicted
from bothways.studio.pane import QUIET
from bothways.studio.tabs.generate import MODEL_INFO, build_weights
from bothways.studio.tabs.photo import FILES, taken
from bothways.types import RunError, UserError

EMPTY = "Choose a photo and press Predict."


def answered(model: str | None, weights: str | None, photo: Tensor | None) -> list[Any]:
    """Updates of [trouble, calls]."""
    try:
        if photo is None:
            raise UserError("no photo was given; choose one")
        return ["", fragments.calls(predicted(model, weights, photo))]
    except (UserError, RunError) as error:
        return [fragments.note(str(error), "predict", alert=True), ""]


def uploaded(folder: Path, file: str) -> list[Any]:
    """Updates of [cleared file input, weights, trouble] when a file of weights is chosen."""
    try:
        return [None, str(keep_weights(file, folder)), ""]
    except UserError as error:
        return [None, gr.skip(), fragments.note(str(error), alert=True)]


def build_tab(weights: Path) -> None:
    """Create the components and handlers of the tab. weights: the folder for those that are uploaded."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = gr.Dropdown(
                classifiers(), value=MODEL, allow_custom_value=True, label="Model", info=MODEL_INFO,
                elem_id="predict-model",
            )  # fmt: skip
            file = gr.File(label="Photo", file_types=FILES, height=140, elem_id="predict-file")
            with gr.Accordion("More settings", open=False):
                own, given = build_weights("predict")
            start = gr.Button("Predict", variant="primary", elem_id="predict-start")
        with gr.Column(scale=3, min_width=300):
            trouble = gr.HTML(elem_id="predict-status", js_on_load=None)
            photo, shown = gr.State(None), gr.HTML(fragments.pictures(None, EMPTY), js_on_load=None)
            calls = gr.HTML(elem_id="predict-calls", js_on_load=None)
    file.upload(partial(taken, fragments.single), file, [photo, shown, file], **QUIET)
    given.upload(partial(uploaded, weights), given, [given, own, trouble], **QUIET)
    start.click(answered, [model, own, photo], [trouble, calls], **{**QUIET, "show_progress": "minimal"})
