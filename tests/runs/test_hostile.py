"""Every file of real run folders, changed or replaced in any way: a result, or one line that names the run, no hang."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stdout
from functools import cache
from pathlib import Path
from random import Random

import pytest

from bothways import UserError, load_classifier, load_flow, load_model
from bothways.models.classifiers import coupling_of_card, finetuned_facts, trained_on
from bothways.report import write_report
from bothways.runs import RunFolder
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from bothways.types import RunError
from golden_cases import Made, libraries
from hostile import IN_PLACE, no_hang, rewritten

pytestmark = pytest.mark.filterwarnings("ignore")  # such as that pictures are resized: they are as they were drawn

SHOWN = ["das-judge", "edit", "evaluate", "explain", "train", "features-probed", "sample-judged", "diagnose"]
LEARNED = ["pretrain-otcfm", "finetune-walked", "curves"]
GOES_ON = {"das-judge": "generate", "evaluate": "evaluate", "features-probed": "features", "diagnose": "diagnose"}
SUFFIXES = (".toml", ".json", ".jsonl", ".png", ".txt", ".safetensors", ".parquet", ".pt", "")
TRIALS = 2  # of every file of a run that is small
NESTED = ("das", "icons")  # the runs within an audit, which are runs of their own
CARDS = {"train": "training.json", "pretrain-otcfm": "flow.json", "finetune-walked": "classifier.json"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The name of a case -> its run folder, written once; skips where a library is missing."""
    runs = Made(tmp_path_factory.mktemp("runs"))

    @cache
    def folder(case: str) -> Path:
        for library in libraries(case):
            pytest.importorskip(library)
        return runs.folder(case)

    return folder


def trials(
    whole: Path, place: Path, files: list[Path], seeds: range, linked: bool = True
) -> Iterator[tuple[Path, Path, str]]:
    """(a run folder with one file changed, that file, how) of each file and seed. linked: where it is only read."""
    for file in files:
        for seed in seeds:
            draw = Random(f"{file.relative_to(whole)} {seed}")
            inside = file.suffix in (".toml", ".json", ".jsonl") and draw.random() < 0.7
            how = rewritten if inside else draw.choice(IN_PLACE)
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(whole, place, copy_function=os.link if linked else shutil.copy2)
            changed = place / file.relative_to(whole)
            changed.unlink()
            shutil.copyfile(file, changed)
            how(changed, draw)
            yield place, changed, f"{how.__name__} {seed}"


def written(whole: Path, pictures: int = 1) -> list[Path]:
    """The files that a run wrote and that are read again, of its pictures the first."""
    files = [file for file in sorted(whole.rglob("*")) if file.is_file() and file.suffix in SUFFIXES]
    seen = [file for file in files if file.suffix == ".png"]
    return [
        file
        for file in files
        if file.suffix != ".png" and file.name != "printed.json" and file.parent.name not in NESTED
    ] + seen[:pictures]


def said_by(call: Callable[[], object]) -> str:
    """The line of a call that is refused; "" for a result."""
    try:
        with no_hang(), redirect_stdout(io.StringIO()):
            call()
    except (UserError, RunError) as error:
        return str(error)
    return ""


def ends(call: Callable[[], object], run: Path, how: str) -> None:
    """A call that gives a result, or one line that names the run."""
    said = said_by(call)
    assert not said or (run.name in said and "\n" not in said), (how, said)


@pytest.mark.parametrize("case", SHOWN + LEARNED)
@pytest.mark.slow
def test_a_report_of_a_run_folder_with_one_file_changed(made, tmp_path: Path, case: str) -> None:
    whole = made(case)
    for run, changed, how in trials(
        whole, tmp_path / f"a-run-{case}", written(whole), range(TRIALS - (case in LEARNED))
    ):
        told = f"{changed.name}: {how}"
        ends(lambda run=run: write_report([run], run / "report.html"), run, told)
        if case in ("das-judge", "evaluate", "curves"):
            ends(lambda run=run: write_report([run, whole], tmp_path / "both.html"), run, told)


@pytest.mark.parametrize("case", SHOWN)
def test_the_studio_shows_a_run_folder_with_one_file_changed(made, tmp_path: Path, case: str) -> None:
    fragments = pytest.importorskip("bothways.studio.fragments")
    whole = made(case)
    for run, changed, how in trials(whole, tmp_path / f"a-run-{case}", written(whole), range(10, 11)):
        told = f"{changed.name}: {how}"
        shown = fragments.cards({run.name: RunFolder(run)})  # never an error: a broken run does not hide the others
        assert run.name in shown, told
        ends(lambda run=run: fragments.beside({run.name: RunFolder.open(run)}), run, told)
        for part in (fragments.changes, fragments.verdicts, fragments.audited):
            ends(lambda run=run, part=part: part(RunFolder.open(run)), run, told)


def test_a_page_of_the_studio_of_a_run_with_one_file_changed(made, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from studio_client import opened

    whole, runs = made("edit"), tmp_path / "runs"
    runs.mkdir()
    files = [file for file in written(whole) if file.suffix in (".toml", ".jsonl", ".png", ".json")]
    with opened(tmp_path) as page:
        for run, changed, how in trials(whole, runs / "changed", files, range(20, 21)):
            with no_hang():
                report = page.client.get("/report", params={"run": run.name})
                told = str(page.choose_run(run.name)["output"])
            assert report.status_code in (200, 404), (changed, how, report.text)
            assert "Traceback" not in report.text + told, (changed, how)
            assert "Error:" not in told, (changed, how, told)


@pytest.mark.parametrize("case", GOES_ON)
def test_a_run_folder_with_one_file_changed_goes_on(made, tmp_path: Path, case: str) -> None:
    whole = made(case)
    place = tmp_path / f"a-run-{case}"
    with chdir(whole.parents[1]):
        for run, changed, how in trials(whole, place, written(whole), range(100, 101), linked=False):
            said = said_by(lambda run=run: perform(work_of(GOES_ON[case], out=run, resume=True)))
            assert "\n" not in said, (changed, how)
            if changed.name != "given.json":  # whose line is of the setting that it names
                assert not said or run.name in said, (changed, how, said)


@pytest.mark.parametrize("case", CARDS)
def test_a_card_that_is_changed(made, tmp_path: Path, case: str) -> None:
    whole, name = made(case), CARDS[case]
    doors = {
        "training.json": [lambda run: load_model(str(run / name)), lambda run: trained_on(str(run / name))],
        "flow.json": [lambda run: load_flow(str(run))],
        "classifier.json": [lambda run: load_classifier(str(run)), lambda run: load_flow(str(run))],
    }[name]
    facts = [lambda run, told=told: told(str(run)) for told in (finetuned_facts, trained_on, coupling_of_card)]
    for run, _, how in trials(whole, tmp_path / f"a-run-{case}", [whole / name], range(6)):
        for door in (*doors, *facts):
            ends(lambda run=run, door=door: door(run), run, how)
