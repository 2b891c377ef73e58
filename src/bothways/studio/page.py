"""The Gradio page: six tabs over one job queue and one folder of runs."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from bothways.studio.jobs import Jobs
from bothways.studio.shelf import Shelf
from bothways.studio.tabs import explain, generate, photo, predict, runs, walk

HEAD = '<h1 class="bw-title">bothways <span>studio</span></h1>'


def theme() -> gr.themes.Base:
    """The theme of the page. It uses system fonts, so nothing is fetched."""
    green = gr.themes.Color(
        "#effaf5", "#d8f3e7", "#b2e6cf", "#7fd3b1", "#45cf9f", "#17996e", "#0a7f5a", "#086648", "#06503a", "#04392a",
        "#02231a",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=green,
        neutral_hue="zinc",
        radius_size="sm",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(  # darker than the base theme's, for contrast
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def build_page(jobs: Jobs, shelf: Shelf, weights: Path) -> gr.Blocks:
    """Build the page with its event handlers. weights: the folder for those that are uploaded."""
    with gr.Blocks(title="bothways studio", analytics_enabled=False) as page:
        gr.HTML(HEAD, js_on_load=None)
        with gr.Tabs(selected="generate") as tabs:
            with gr.Tab("Generate", id="generate"):
                drawing, _ = generate.build_tab(page, jobs, weights)
            with gr.Tab("Photo", id="photo"):
                changing, _ = photo.build_tab(page, jobs, weights)
            with gr.Tab("Walk", id="walk"):
                walk.build_tab(page, jobs, shelf)
            with gr.Tab("Predict", id="predict"):
                predict.build_tab(weights)
            with gr.Tab("Explain", id="explain"):
                explain.build_tab(page, jobs, weights)
            with gr.Tab("Runs", id="runs") as listed:
                runs.build_tab(listed, shelf, tabs, drawing, changing)
    return page
