"""Every long command killed at one of its points, gone on with, and compared with a run that was left alone."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file

from bothways.cli import main
from bothways.runs import RunFolder
from bothways.runs.files import plain
from bothways.runs.inventory import PARTIAL, noted
from bothways.serve.drawings import Drawn
from bothways.studio.jobs import Job, Jobs
from bothways.tasks.work import perform
from disk import Disk, Ended, begun, forked
from golden_cases import TOY, Made
from golden_values import numbers
from latent_flows import latent_unet

FLOW = "pretrain --data digits --workers 0 --batch 8 --validation 8 --net unet-tiny --steps 4 --save-every 1"
TUNED = "finetune @pretrain-otcfm --data digits --workers 0 --batch 8 --validation 8 --train-steps 3 --save-every 1"
FEW = "pretrain --workers 0 --net unet-tiny"
COMMANDS: dict[str, str] = {
    "generate": f"generate {TOY} --class anchor dragon --n 2 --batch 2 --steps 3 --recipe das --gif",
    "generate-judged": f"generate {TOY} --class candle --n 2 --steps 3 --recipe das --judge toy.py:other --data photos",
    "generate-overwritten": f"generate {TOY} --class anchor --n 2 --steps 2 --recipe das --overwrite",
    "edit": f"edit {TOY} photo.png --class dragon --box 3 4 11 13 --steps 3 --n 2",
    "inpaint": f"inpaint {TOY} photo.png --mask mask.png --steps 3",
    "style": f"style {TOY} photo.png photos/03.png --steps 3 --n 1",
    "invert": f"invert {TOY} photo.png --steps 3 --n 2",
    "accentuate": f"accentuate {TOY} photo.png --steps 3 --n 1",
    "pretrain": f"{FLOW} --information 4",
    "finetune": f"{TUNED} --kind walked --depth 0.4 --steps 2",
    "pretrain-two": f"{FEW} --data small --batch 4 --validation 4 --steps 3 --save-every 1",
    "train": "train training.toml --data cifar --save-every 1",
    "features": "features flow --data split --kind walked activations --depth 0.5 --steps 2 --workers 0 --batch 8",
    "evaluate": f"evaluate {TOY} --data split --corruptions offline:blur --limit 8",
    "explain": f"explain {TOY} --data split --classes anchor barrel dragon --n 2 --steps 2",
    "scorecard": f"scorecard {TOY} --data photos --n 2 --drawings 1",
    "likelihood": "likelihood flow --data small --limit 4 --steps 2 --batch 1",
    "sample": "sample flow --n 4 --steps 3 --batch 2",
    "curves": "curves @finetune-walked --data digits --limit 6 --limit-long 2 --steps 1 2 --depth-offsets 0.5",
    "diagnose": "diagnose tiny.py:build --data small --n 2 --steps 2 --depths .5 --trip-steps 1 2",
    "walk": "walk flow photo.png --steps 2 --data small --limit 4",
    "statistics": f"statistics {TOY} --data photos --limit 8 --rank 3",
    "spectrum": "spectrum --data photos --size 16 --limit 6",
    "latents": "latents diffusers:latent --data split --workers 0 --batch 8",
    "export": "export @finetune-walked --to hub-folder",
    "plan": "plan otcfm --data digits --batch 8 --steps 4 --device a100",
    "report": "report @das-judge @evaluate",
    "sweep": "likelihood flow --data small --limit 2 --steps 1 --batch 1 --sweep seed=0,1",
    "serve": "",  # a drawing of the service
    "rows": "train training.toml --data cifar --save-every 1 --in-memory 0",
}
# Commands that write a file, or a folder of files, and no run.
FILES = {"statistics": "kept.safetensors", "spectrum": "kept.safetensors", "plan": "kept.json", "report": "kept.html"}
FILES["export"] = "kept"
REPLACES = ("report",)  # commands of a file that write over their own without --overwrite
CACHES = ("rows",)  # commands that keep unpacked pictures in a cache, here beside the run
NOT_READ = (".html",)  # made anew at the end of a run, with its times
AGAIN = ("state", "files.txt", ".lock", "latest")  # how a run goes on, compared by what it means


def imported() -> tuple[Any, ...]:
    """The modules that ``eager`` changes. Whoever forks imports them first, since every fork would else do so."""
    from bothways.tasks.features import plan
    from bothways.tasks.features import run as features
    from bothways.tasks.generate import drawing
    from bothways.tasks.pretrain import run as pretrain
    from bothways.tasks.sample import run as sample
    from bothways.tasks.scorecard import damage

    return plan, features, drawing, pretrain, sample, damage


def eager() -> None:
    """In a fork: state is saved at every step, and features in small parts, so that there is more to go on with."""
    plan, features, drawing, pretrain, sample, damage = imported()
    drawing.SECONDS_BETWEEN_SAVES = sample.SECONDS_BETWEEN_SAVES = 0.0
    plan.ROWS = features.ROWS = 8
    pretrain.SAMPLE_STEPS = 2
    damage.LEVELS, damage.DAMAGE = (0.1, 0.5), {"blur 1.5": ("blur", 1.5)}


def typed(words: list[str], place: Path, cache: str = "") -> None:
    """Type a command, in a fork. cache: the folder of unpacked pictures, below the place."""
    eager()
    if cache:
        os.environ["XDG_CACHE_HOME"] = str(place / cache)
    with chdir(place):
        main(words)


class Command:
    """A command of COMMANDS, in folders of its own below ``made.place``."""

    def __init__(self, name: str, made: Made) -> None:
        self.name, self.place, self.file = name, made.place, FILES.get(name, "")
        self.inside = "run" if name in CACHES else self.file
        if name == "latents" and not (made.place / "latent").exists():
            latent_unet(made.place / "latent")
        words = shlex.split(COMMANDS[name])
        for word in words:
            if word.startswith("@"):
                made.folder(word[1:])
        self.overwrites = "--overwrite" in words
        self.words = [f"made/{word[1:]}" if word.startswith("@") else word for word in words if word != "--overwrite"]
        self.code = [part for word in words if ".py:" in word for part in ("--allow-code", word.partition(":")[0])]
        imported()
        with redirect_stdout(io.StringIO()), chdir(self.place), warnings.catch_warnings(), suppress(SystemExit):
            warnings.simplefilter("ignore")
            main([*self.words, "--out", f"killed/{name}/warm/{self.inside}"])  # what it imports, its forks have then
        self.whole = self._begun("whole")
        self.alone = self.run("whole", self._disk("whole"))
        assert self.alone.code == 0, self.alone.said
        self.points = self.alone.points

    def _begun(self, folder: str) -> Path:
        """An empty place for a run, or that of a complete one which is to be replaced."""
        place = self.place / "killed" / self.name / folder
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.inside:
            place.mkdir()
        elif self.overwrites:
            kept = self.place / "killed" / self.name / "earlier"
            if not kept.exists():
                ended = forked(partial(typed, [*self.words, "--seed", "7", "--out", str(kept)], self.place))
                assert ended.code == 0, ended.said
            shutil.copytree(kept, place)
        return place

    def _disk(self, folder: str, what: str = "kill", at: int = 0) -> Disk:
        return Disk(self.place / "killed" / self.name / folder, what, at)

    def run(self, folder: str, disk: Disk | None = None, *more: str) -> Ended:
        return self.started(folder, disk, *more)()

    def started(self, folder: str, disk: Disk | None = None, *more: str) -> Callable[[], Ended]:
        """Begin a process; what is returned waits for its end."""
        more = (*more, *(["--overwrite"] if self.overwrites else []))
        return begun(self.call([*self.words, *more], folder), disk)

    def call(self, words: list[str], folder: str) -> Callable[[], None]:
        """What a fork does: a command is typed that writes to a folder."""
        above = f"killed/{self.name}/{folder}"
        out = f"{above}/{self.inside}" if self.inside else above
        cache = f"{above}/cache" if self.name in CACHES else ""
        return partial(typed, [*words, "--out", out], self.place, cache)

    def go_on(self, folder: str, bare: bool) -> Ended:
        """Type what a person would after a kill. bare: with nothing but --resume, where the run knows its settings."""
        place = self.place / "killed" / self.name / folder / self.inside
        if self.file:
            over = place.exists() and self.name not in REPLACES
            return self.run(folder, None, *(["--overwrite"] if over else []))
        if self.overwrites or not (place / "recipe.toml").exists():
            return self.run(folder)
        if bare and (place / "given.json").exists():
            return forked(self.call([self.words[0], "--resume", *self.code], folder))
        return self.run(folder, None, "--resume")

    def faults(self, what: str, at: int) -> Iterator[str]:
        """What is wrong after that happened at that point, a line each; nothing where all is well."""
        place = self._begun("broken")
        self.ended = self.run("broken", self._disk("broken", what, at))
        yield from _wrong_end(self.ended, what)
        yield from half_written(place)
        yield from self.wrong_after("broken", bare=at % 2 == 0)

    def wrong_after(self, folder: str, bare: bool) -> Iterator[str]:
        """What is wrong once the run in a folder has gone on, where it had to."""
        if self.ended.code != 0:
            again = self.go_on(folder, bare)
            if again.code != 0:
                yield f"does not go on: {again.said.strip()[-600:]}"
                return
        yield from differences(self.place / "killed" / self.name / folder, self.whole)

    def faults_of_small_disk(self, share: float) -> Iterator[str]:
        """The same on a disk of its own that holds a share of what the run needs, and then all. For root alone."""
        above = self.place / "killed" / self.name / "small"
        above.mkdir(exist_ok=True)
        need = sum(file.stat().st_size for file in files_of(self.whole).values()) // 1024 + 64
        _mounted(above, f"size={max(4, round(share * need))}k")
        try:
            self.ended = self.run("small/run")
            yield from _wrong_end(self.ended, "full")
            yield from half_written(above / "run")
            _mounted(above, "remount,size=200m")
            yield from self.wrong_after("small/run", bare=False)
        finally:
            subprocess.run(["umount", above], check=True)

    def faults_of_read_only_place(self) -> Iterator[str]:
        """A disk that nothing can be written to. For root alone."""
        above = self.place / "killed" / self.name / "still"
        above.mkdir(exist_ok=True)
        _mounted(above, "ro")
        try:
            self.ended = self.run("still/run")
            if self.ended.code != 2:
                yield f"ended with {self.ended.code} on a disk that cannot be written"
            yield from _wrong_end(self.ended, "read-only")
        finally:
            subprocess.run(["umount", above], check=True)

    def faults_of_two(self) -> Iterator[str]:
        """Two processes told to write one folder at one time: one does, the other says a line."""
        place = self._begun("two")
        both = [self.started("two") for _ in range(2)]
        ends = [wait() for wait in both]
        for ended in ends:
            yield from _wrong_end(ended, "two")
        if sorted(ended.code for ended in ends) != [0, 2]:
            yield f"ended with {[ended.code for ended in ends]}: {[ended.lines for ended in ends]}"
        yield from differences(place, self.whole)


class Several(Command):
    """A training by two processes: the first is broken at its points, the second at those after, and both go on."""

    def __init__(self, name: str, made: Made) -> None:
        self.ends: list[Ended] = []
        super().__init__(name, made)
        self.of_first = self.ends[0].points
        self.points = sum(ended.points for ended in self.ends)

    def started(self, folder: str, disk: Disk | None = None, *more: str) -> Callable[[], Ended]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        above = self.place / "killed" / self.name / folder
        disks = [Disk(above), Disk(above)] if disk is not None else [None, None]
        self.broken = int(disk is not None and disk.at > self.alone_points)
        if disk is not None and disk.at:
            disks = [None, None]
            disks[self.broken] = Disk(above, disk.what, disk.at - self.broken * self.alone_points)
        call = self.call([*self.words, *more], folder)
        waits = [begun(partial(_as_rank, rank, port, call), disks[rank]) for rank in range(2)]

        def wait() -> Ended:
            ends = {self.broken: waits[self.broken]()}  # first, since one that has ended looks alive until then
            ends[1 - self.broken] = waits[1 - self.broken]()
            self.ends = [ends[rank] for rank in range(2)]
            return ends[self.broken]

        return wait

    @property
    def alone_points(self) -> int:
        """Points of the first process of a training that was left alone."""
        return getattr(self, "of_first", 10**9)

    def faults(self, what: str, at: int) -> Iterator[str]:
        """As of a single process; the other ends by itself, in a line that names the one that is lost."""
        place = self._begun("broken")
        self.ended = self.run("broken", self._disk("broken", what, at))
        other = self.ends[1 - self.broken]
        yield from _wrong_end(self.ended, what)
        if self.ended.code != 0 and (other.code not in (0, 1, 2) or "Traceback" in other.said or len(other.lines) > 1):
            yield f"the other process ended with {other.code} and said: {other.said.strip()[-600:]}"
        yield from half_written(place)
        self.ended = other if self.ended.code == 0 else self.ended
        yield from self.wrong_after("broken", bare=False)


def _as_rank(rank: int, port: int, call: Callable[[], object]) -> None:
    """In a fork: as torchrun starts a process of two."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    call()


@dataclass(frozen=True)
class Broken(Drawn):
    """A drawing of the service whose disk breaks in the process that draws."""

    what: str = "kill"
    at: int = 0

    def prepare(self, out: Path) -> Any:
        Disk(out, self.what, self.at).watch()
        return super().prepare(out)


class Served(Command):
    """A drawing of the service: its process is broken, the service says so and draws the next."""

    VALUES: ClassVar[dict[str, Any]] = {"model": "bundled:cifar10-resnet", "classes": ["frog"], "n": 1, "steps": 2}

    def __init__(self, name: str, made: Made) -> None:
        self.name, self.place, self.file, self.inside, self.overwrites = name, made.place, "", "", False
        self.words, self.code, self.ended = ["generate"], [], Ended(0, "", 0)
        place = self.place / "killed" / name
        place.mkdir(parents=True)
        counted = forked(lambda: perform(self._request().prepare(place / "counted")), Disk(place / "counted"))
        assert counted.code == 0, counted.said
        self.points, self.jobs = counted.points, Jobs(place / "runs", 5.0, ready=True)
        self.whole = self._done(self._request()).folder

    def _request(self, what: str = "kill", at: int = 0) -> Broken:
        return Broken("generate", "generate", {**self.VALUES, "seed": 0, "recipe": "das"}, what, at)

    def _done(self, request: Broken) -> Job:
        job = self.jobs.submit(request)
        while job.active:
            time.sleep(0.02)
        return job

    def faults(self, what: str, at: int) -> Iterator[str]:
        job = self._done(self._request(what, at))
        if job.state != "complete" and ("Traceback" in job.message or "\n" in job.message or not job.message):
            yield f"the service says {job.message!r}"
        if job.folder.is_dir():
            yield from half_written(job.folder)
            if job.state != "complete":
                if (state := RunFolder(job.folder).status["state"]) not in ("failed", "running"):
                    yield f"the run is {state}"
                again = forked(partial(typed, ["generate", "--resume", "--out", str(job.folder)], self.place))
                if again.code != 0 and (job.folder / "given.json").exists():
                    yield f"does not go on: {again.said.strip()[-600:]}"
                    return
            if (job.folder / "given.json").exists():
                yield from differences(job.folder, self.whole)
        if self._done(self._request()).state != "complete":
            yield "the service does not draw the next"


KINDS: dict[str, type[Command]] = {"pretrain-two": Several, "serve": Served}


def command_of(name: str, made: Made) -> Command:
    """A command of COMMANDS, or of KINDS alone."""
    return KINDS.get(name, Command)(name, made)


def _mounted(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)


def may_mount() -> bool:
    """Whether a disk of its own can be had here."""
    with tempfile.TemporaryDirectory() as place:
        try:
            _mounted(Path(place), "size=64k")
        except (OSError, subprocess.CalledProcessError):
            return False
        return subprocess.run(["umount", place], check=False).returncode == 0


def _wrong_end(ended: Ended, what: str) -> Iterator[str]:
    """A kill ends by its signal, a broken disk by one line; what is past the last point ends as ever."""
    if ended.code == 0 or (what == "kill" and ended.code == -9):
        return
    if ended.code not in (1, 2) or len(ended.lines) != 1 or "Traceback" in ended.said:
        yield f"ended with {ended.code} and said: {ended.said.strip()[-600:]}"


def spread(points: int, number: int) -> list[int]:
    """So many points over a whole life, or all of them."""
    return sorted({1 + k * points // number for k in range(number)}) if number < points else list(range(1, points + 1))


# ---- what is in a folder -------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, Path]:
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def half_written(folder: Path) -> Iterator[str]:
    """The files under their own names that are not whole, and those that a later --overwrite would not know."""
    for name, file in files_of(folder).items():
        if not name.endswith(PARTIAL) and not file.name.startswith("."):
            try:
                read_whole(file)
            except Exception as error:
                yield f"{name} is not whole: {error}"
    for run in {file.parent for file in folder.rglob("recipe.toml")}:
        known = {file.name for file in noted(run)}
        for file in run.iterdir():
            if file.is_file() and not file.name.startswith(".") and file.name not in {"files.txt"} | known:
                yield f"{file.name} is not in files.txt"


def read_whole(file: Path) -> Any:
    """What a file holds. Raises an exception for one that is not whole; a line may be cut at the end of some."""
    content = file.read_bytes()
    if file.suffix in (".png", ".gif"):
        with Image.open(file) as picture:
            picture.load()
    elif file.suffix == ".json":
        return json.loads(content)
    elif file.suffix == ".jsonl":
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
    elif file.suffix == ".toml":
        return tomllib.loads(content.decode())
    elif file.suffix == ".safetensors":
        return load_file(file)
    elif file.suffix == ".parquet":
        return pq.read_table(file)
    elif file.suffix == ".pt":
        return torch.load(file, weights_only=True)
    elif file.suffix == ".html" and b"</html>" not in content[-50:]:
        raise ValueError("the page has no end")
    return None


def differences(found: Path, wanted: Path) -> Iterator[str]:
    """What one folder holds otherwise than another: bytes, and of JSON all but times."""
    own, theirs = files_of(found), files_of(wanted)
    yield from (f"{name} is left" for name in own if name.endswith(PARTIAL))
    names = [{name for name in of if not set(name.split("/")) & set(AGAIN)} for of in (own, theirs)]
    yield from (f"{name} is missing" for name in sorted(names[1] - names[0]))
    yield from (f"{name} is new" for name in sorted(names[0] - names[1]) if not name.endswith(PARTIAL))
    for name in sorted(names[0] & names[1]):
        told = [_content(file[name]) for file in (own, theirs)]
        if name.endswith(".py"):  # an export's, which shows how it is loaded from where it was written
            told = [str(it).replace(f"/{of.name}/", "/") for it, of in zip(told, (found, wanted), strict=True)]
        if not name.endswith(NOT_READ) and told[0] != told[1]:
            yield f"{name} differs" + (f": {told[0]} and not {told[1]}" if name.endswith("status.json") else "")
    for run in sorted({Path(name).parent for name in theirs if name.endswith("recipe.toml")}):
        states = [_state(folder / run) for folder in (found, wanted)]
        if states[0] != states[1]:
            yield f"{run}/state differs"


def _content(file: Path) -> Any:
    if file.name == "status.json":
        status = read_whole(file)
        return {key: status.get(key) for key in ("state", "message", "pictures", "of", "step", "steps", "doing")}
    if file.suffix == ".pt":  # whose bytes also tell which equal strings were one object
        return plain(read_whole(file))
    return numbers(read_whole(file)) if file.suffix in (".json", ".jsonl") else file.read_bytes()


def _state(folder: Path) -> Any:
    """The checkpoint of a run folder, whatever its number."""
    saved = RunFolder(folder).load_state()
    if saved is None:
        return None
    tensors: Mapping[str, Any] = {name: value.tolist() for name, value in saved[0].items()}
    return json.dumps([tensors, numbers(saved[1])], sort_keys=True)
