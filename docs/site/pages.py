"""The pages of the site that the package itself can write, as a hook of mkdocs.

index, contributing, changelog   README.md and its neighbours, with their links turned to the site
tasks/NAME                       a task: what it does, its examples, every setting; from its Config
recipes, registry                every recipe in full; every entry of every kind with its source
api                              the public names, from their docstrings
examples/NAME, notebooks/NAME    files that run, as pages
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any

import bothways
from bothways import registry
from bothways.cli.entry import grouped
from bothways.cli.flags import flags_of
from bothways.cli.wording import default_of
from bothways.configs import Config, kind_of, leaves, option_of
from bothways.tasks.recipes import recipe_folder, recipes

ROOT = Path(__file__).resolve().parents[2]
FRONT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
PICTURES = {  # of a task: the picture that shows it, and the page that says how it was drawn
    "generate": ("photographs.jpg", "measured.md"),
    "demo": ("both-ways.png", "index.md"),
    "edit": ("edit224.jpg", "tasks.md"),
    "inpaint": ("inpaint224.jpg", "inpainting.md"),
    "style": ("style224.jpg", "tasks.md"),
    "invert": ("tasks224.jpg", "tasks.md"),
    "accentuate": ("tasks224.jpg", "tasks.md"),
    "explain": ("planted.png", "audit.md"),
    "scorecard": ("dsf-rows.jpg", "scorecards.md"),
    "pretrain": ("flow-digits.png", "flows.md"),
    "sample": ("flow-samples.png", "flows.md"),
    "walk": ("flow-strips.png", "flows.md"),
    "finetune": ("controls.png", "prg.md"),
    "curves": ("curves.png", "prg.md"),
    "statistics": ("unlabelled.jpg", "measured.md"),
    "spectrum": ("canvases.jpg", "measured.md"),
}
TOLD = {  # of a task without a picture: the page that tells more
    "diagnose": "flows.md",
    "likelihood": "flows.md",
    "features": "features.md",
    "evaluate": "evaluation.md",
    "predict": "evaluation.md",
    "train": "evaluation.md",
    "reproduce": "reproduced.md",
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and drop the notebooks' own files."""
    from mkdocs.structure.files import File

    for page, make in made().items():
        files.append(File.generated(config, page, content=make()))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links that leave docs/ to the pages made of what they lead to."""
    return inside(markdown, page.file.src_uri)


def on_config(config: Any) -> Any:
    """Write out ``folder/*`` in the navigation."""
    config["nav"] = [written_out(entry) for entry in config["nav"]]
    return config


def written_out(entry: Any) -> Any:
    """An entry of the navigation with each ``folder/*`` replaced by the pages made for that folder."""
    if isinstance(entry, dict):
        return {title: written_out(below) for title, below in entry.items()}
    if isinstance(entry, list):
        return [page for below in entry for page in _several(below)]
    return list(_several(entry)) if isinstance(entry, str) and entry.endswith("/*") else entry


def _several(entry: Any) -> Iterator[Any]:
    if entry == "tasks/*":
        groups = grouped(registry.names("task"))
        yield from ({title: [f"tasks/{task}.md" for task in tasks]} for title, tasks in groups.items())
    elif isinstance(entry, str) and entry.endswith("/*"):
        yield from (page for page in made() if page.startswith(entry[:-1]))
    else:
        yield written_out(entry)


def made() -> dict[str, Callable[[], str]]:
    """{page: what writes it}."""
    pages: dict[str, Callable[[], str]] = {page: partial(_read, source) for page, source in FRONT.items()}
    pages |= {f"tasks/{task}.md": partial(task_page, task) for task in sorted(registry.names("task"))}
    pages |= {"recipes.md": recipes_page, "registry.md": registry_page, "api.md": api_page}
    pages |= {
        f"examples/{path.stem}.md": partial(example_page, path) for path in sorted((ROOT / "examples").glob("*.py"))
    }
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = partial(notebook_page, path)
    return pages


def inside(markdown: str, page: str) -> str:
    """The text of a page with links to README, CONTRIBUTING, CHANGELOG, examples/ and docs/ as links of the site."""
    up = "../" * page.count("/")
    back = {source: made_page for made_page, source in FRONT.items()}
    for source, made_page in back.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(source)}", f"]({up}{made_page}", markdown)
    markdown = markdown.replace("](docs/notebooks/)", f"]({up}notebooks/draw-from-my-model.md)")
    markdown = re.sub(r"\[([^\]]+)\]\(\.\./benchmarks/[^)]*\)", r"\1", markdown)  # not of the site
    markdown = re.sub(r"\]\((?:\.\./)?examples/(\w+)\.py", rf"]({up}examples/\1.md", markdown)
    return re.sub(r"\]\(docs/", f"]({up}", markdown) if page in FRONT else markdown


def _read(source: str) -> str:
    return (ROOT / source).read_text(encoding="utf-8")


def task_page(task: str) -> str:
    """The page of a task."""
    entry = registry.find("task", task)
    config: type[Config] = entry.factory
    text, _, examples = cleandoc(config.__doc__ or "").partition("\nExamples\n")
    lines = [f"# {task}", entry.help, text.strip(), "```sh\n" + examples.strip() + "\n```" if examples.strip() else ""]
    if task in PICTURES:
        picture, told = PICTURES[task]
        lines.append(
            f"![What {task} makes](../pictures/{picture})\n\n*How this was drawn stands in [{told[:-3]}](../{told}).*"
        )
    elif task in TOLD:
        lines.append(f"What it measured: [{TOLD[task][:-3]}](../{TOLD[task]}).")
    lines += [
        "## From Python",
        f"```python\nbothways.{task}({', '.join(config.order())}, ...)\n```" if config.order() else "",
        f"It returns {config.gives}." if config.gives else "",
        "The settings are keywords by the names of the first column, or by their last part where only one has it.",
        "## Settings",
        settings_table(config),
    ]
    return "\n\n".join(line for line in lines if line)


def settings_table(config: type[Config]) -> str:
    """Every setting of a Config: name, flag, default, description."""
    flags = flags_of(config)
    rows = ["| setting | flag | default | |", "|---|---|---|---|"]
    for place, field in leaves(config):
        flag = " ".join(f"`{name}`" for name in flags.get(place, ()))
        if option_of(field, "argument"):
            flag = f"`{option_of(field, 'metavar') or place[-1].upper()}`"
        kind = kind_of(field)
        text = (field.description or "").strip() + (f" ([{kind}](../registry.md#{kind}))" if kind else "")
        default = "" if field.is_required() else default_of(config, place, field)
        rows.append("| " + " | ".join(map(_cell, (f"`{'.'.join(place)}`", flag, default, text))) + " |")
    return "\n".join(rows)


def recipes_page() -> str:
    """Every recipe in full."""
    lines = ["# Recipes", "A recipe is a TOML file of a task's settings; `--recipe my.toml` takes one of your own."]
    for task in registry.names("task"):
        if found := recipes(task):
            lines.append(f"## {task}")
        for name, text in found.items():
            lines += [
                f"### {name}",
                text,
                f"```toml\n{(recipe_folder() / f'{name}.toml').read_text('utf-8').strip()}\n```",
            ]
    return "\n\n".join(lines)


def registry_page() -> str:
    """Every entry of every kind."""
    lines = [
        "# Registry",
        "What can be swapped, by kind. One of your own: [contributing](contributing.md#a-part-of-your-own).",
    ]
    for kind in registry.PLACES:
        if kind == "task":
            continue
        rows = ["| name | | source |", "|---|---|---|"]
        rows += [f"| `{n}` | {_cell(e.help)} | {_cell(e.reference)} |" for n, e in registry.entries(kind).items()]
        lines += [f"## {kind}", "\n".join(rows)]
    return "\n\n".join(lines)


def api_page() -> str:
    """The public names: tasks lead to their pages, the others are shown from their docstrings."""
    tasks = registry.entries("task")
    lines = ["# API", "Functions of tasks take the settings that their pages list."]
    lines.append("\n".join(f"- [`bothways.{task}`](tasks/{task}.md): {entry.help}" for task, entry in tasks.items()))
    lines.append("## Models, results and the rest")
    lines += [f"::: {getattr(bothways, name).__module__}.{name}" for name in bothways._SHELF]
    return "\n\n".join(lines)


def example_page(path: Path) -> str:
    """A file of examples/ as a page."""
    text = path.read_text(encoding="utf-8")
    return f"# {path.name}\n\n```python\n{text.strip()}\n```"


def notebook_page(path: Path) -> str:
    """A notebook as a page: its text and its code."""
    lines = [f"*The notebook itself: docs/notebooks/{path.name}.*"]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        lines.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join([lines[1], lines[0], *lines[2:]])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
