"""The run folder: every setting, frame, picture and number of one run, and the place to go on after a kill.

    recipe.toml     every setting           frames.jsonl    one line per step       images/   8-bit PNG
    status.json     how far the run is      pictures.jsonl  one line per picture    state/    the unfinished batch
    measures.json   what the judges said

A kill at any moment loses at most the steps since the last ``save_state``.
"""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bothways.runs.files import (
    PARTIAL,
    append_lines,
    cut_torn_line,
    from_png,
    json_line,
    read_json,
    read_lines,
    reason,
    replace_file,
    to_png,
    write_json,
)
from bothways.runs.recipe import as_toml, read_tables, require_equal
from bothways.types import Frame, RunError, UserError

STATES = ("running", "stopped", "failed", "complete")
NEW_STATUS = {"state": "running", "message": "", "seconds": 0.0, "peak_mb": 0.0, "pictures": 0, "of": 0}
OWN_FILES = ("report.html", "status.json", "frames.jsonl", "pictures.jsonl", "measures.json", "recipe.toml")  # last


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "picture"


def _is_empty(path: Path) -> bool:
    return not path.exists() or all(entry.name.endswith(PARTIAL) for entry in path.iterdir())


def _remove_run(path: Path, own: Sequence[str] = ()) -> None:
    """Remove what a run wrote and nothing else: a file of the user's beside it stays."""
    patterns = ("images/*.png", "state/state*", *own, *OWN_FILES)
    for file in [file for pattern in patterns for file in path.glob(pattern)]:
        file.unlink(missing_ok=True)
    for folder in ("images", "state", *{name.split("/")[0] for name in own if "/" in name}):
        with contextlib.suppress(OSError):  # not empty: it holds something of the user's
            (path / folder).rmdir()


class RunFolder:
    """One run on disk. Made by :meth:`create` or :meth:`open`; ``path`` is the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, path: str | Path, settings: Mapping[str, Any], own: Sequence[str] = (), *, overwrite: bool = False,
        resume: bool = False,
    ) -> RunFolder:  # fmt: skip
        """A folder for a new run, or with ``resume`` the one of a run that was cut short.

        settings: the tables of recipe.toml ("task", "settings", "model", "versions"); None values are left out.
        overwrite: remove the run that is there (only what a run wrote, only beside a recipe.toml).
        own: patterns of what this kind of run writes besides, which goes with the run that is removed.
        resume: go on with the run that is there; its saved settings must equal these. Begins where none is.
        Raises UserError where the path is taken, is no run folder, cannot be written, or settings differ.
        """
        folder = cls(Path(path))
        text = as_toml(settings)
        if overwrite and resume:
            raise UserError(f"{path}: --overwrite and --resume contradict each other; type one of them")
        try:
            if folder._begins(own, overwrite=overwrite, resume=resume):
                folder._begin(text)
            else:
                require_equal(folder.path, folder.settings, tomllib.loads(text))
                folder._go_on()
        except RunError as error:
            raise UserError(str(error).split(";")[0] + "; choose a folder that can be written") from error
        except OSError as error:
            raise UserError(f"{path}: {reason(error)}; choose a folder that can be written") from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run folder at ``path``, to read. Raises UserError that says what is missing."""
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise UserError(f"{path}: no such folder; type the folder that a run wrote")
        if not (folder.path / "recipe.toml").is_file():
            raise UserError(f"{path}: not a run folder, recipe.toml is missing; type the folder that a run wrote")
        read_tables(folder.path)  # refuses a run of another layout
        return folder

    def _begins(self, own: Sequence[str], *, overwrite: bool, resume: bool) -> bool:
        """Whether a new run begins here (else one goes on); refuses a place that is not ours to take."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: a file is in the way; type another folder")
        if _is_empty(self.path):
            return True
        if not (overwrite or resume):
            raise UserError(f"{self.path}: is not empty; type --resume to go on, --overwrite to begin again")
        if not (self.path / "recipe.toml").is_file():
            raise UserError(f"{self.path}: is not empty and not a run folder (no recipe.toml); type another folder")
        if overwrite:
            _remove_run(self.path, own)
        return overwrite

    def _begin(self, recipe: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / "recipe.toml", recipe.encode())
        write_json(self.path / "status.json", {**NEW_STATUS, "started": _now()})
        (self.path / "images").mkdir(exist_ok=True)

    def _go_on(self) -> None:
        for name in ("frames.jsonl", "pictures.jsonl"):
            cut_torn_line(self.path / name)
        (self.path / "images").mkdir(exist_ok=True)
        self.write_status("running")

    @property
    def settings(self) -> dict[str, Any]:
        """The tables of recipe.toml. Raises UserError where it cannot be read, or is of another layout."""
        return read_tables(self.path)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """{"batch", "step", "t", "stats"} of every step so far."""
        return read_lines(self.path / "frames.jsonl")

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """The record of every finished picture."""
        return read_lines(self.path / "pictures.jsonl")

    @property
    def measures(self) -> dict[str, Any]:
        """What :meth:`write_measures` was given; empty before."""
        return read_json(self.path / "measures.json")

    @property
    def status(self) -> dict[str, Any]:
        """{"state", "message", "seconds", "peak_mb", "pictures", "of", "started", ...}."""
        return {**NEW_STATUS, **read_json(self.path / "status.json")}

    def append_frame(self, frame: Frame, batch: int | None = None) -> None:
        """Add one step to frames.jsonl; the image of the frame is not kept."""
        line = {
            "batch": frame.batch if batch is None else batch,
            "step": frame.step,
            "t": frame.t,
            "stats": frame.stats,
        }
        append_lines(self.path / "frames.jsonl", [line])

    def drop_frames_after(self, batch: int, step: float = math.inf) -> None:
        """Cut the frames later than ``step`` of ``batch``: those that a resumed run will make again."""
        frames = self.frames
        kept = [frame for frame in frames if (frame["batch"], frame["step"]) <= (batch, step)]
        if len(kept) < len(frames):
            replace_file(self.path / "frames.jsonl", b"".join(json_line(frame) for frame in kept))

    def image_path(self, record: Mapping[str, Any]) -> Path:
        """Where the picture of a record lies. Raises UserError for a name that leads out of the folder."""
        return self._inside(str(record.get("file", "")))

    def _inside(self, file: str) -> Path:
        path = self.path / file
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise UserError(f"{self.path}: pictures.jsonl names {file!r}, outside the run folder")
        return path

    def read_picture(self, record: Mapping[str, Any]) -> Tensor:
        """The picture of a record, (3,H,W) in [0,1]. Raises UserError where it is missing or broken."""
        return self._read(self.image_path(record))

    def read_alpha(self, record: Mapping[str, Any]) -> Tensor | None:
        """How opaque the picture of a record is, (1,H,W) in [0,1], or None where that was not kept."""
        return self._read(self._inside(record["alpha"]), "RGBA")[3:] if "alpha" in record else None

    def _read(self, path: Path, mode: str = "RGB") -> Tensor:
        try:
            return from_png(path.read_bytes(), mode)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); type --overwrite to begin again") from error

    def save_pictures(
        self,
        images: Tensor | Sequence[Tensor],
        records: Sequence[Mapping[str, Any]],
        alphas: Tensor | Sequence[Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Write finished pictures, then their lines; a picture saved before under the same index is replaced.

        images: (B,3,H,W) in [0,1]. records: B, each with "index"; "file" is made from index and "class" if absent.
        alphas: (B,1,H,W) in [0,1], how opaque; a second file, "alpha", then holds the picture with it, as RGBA.
        Returns the records as written. Raises ValueError where B differs, RunError where the disk refuses.
        """
        done: dict[int, dict[str, Any]] = {}
        (self.path / "images").mkdir(exist_ok=True)
        for place, (image, given) in enumerate(zip(images, records, strict=True)):
            index = int(given["index"])
            name = f"images/{index:04d}-{_slug(str(given.get('class') or 'picture'))}.png"
            done[index] = {"index": index, "file": name, **given}
            if alphas is not None:
                file = done[index]["alpha"] = str(Path(done[index]["file"]).with_suffix("")) + "-alpha.png"
                replace_file(self._inside(file), to_png(torch.cat([image, alphas[place]])))
            replace_file(self.image_path(done[index]), to_png(image))
        saved = {record["index"]: record for record in self.pictures}
        if saved.keys() & done.keys():
            merged = [record for _, record in sorted((saved | done).items())]
            replace_file(self.path / "pictures.jsonl", b"".join(json_line(record) for record in merged))
        else:
            append_lines(self.path / "pictures.jsonl", done.values())
        return list(done.values())

    def write_measures(self, measures: Mapping[str, Any]) -> None:
        """Replace measures.json; NaN and infinities become null."""
        write_json(self.path / "measures.json", measures)

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the checkpoint. The JSON is written last and names its tensors, so the pair is always one."""
        folder = self.path / "state"
        folder.mkdir(exist_ok=True)
        serial = int(read_json(folder / "state.json").get("serial", 0)) + 1
        name = f"state-{serial:06d}.safetensors"
        owned = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        replace_file(folder / name, safetensors.torch.save(owned))
        write_json(folder / "state.json", {"serial": serial, "tensors": name, "facts": facts})
        for file in folder.glob("state-*.safetensors"):
            if file.name != name:
                file.unlink(missing_ok=True)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors (on the CPU) and facts of the last checkpoint, or None where there is none."""
        saved = read_json(self.path / "state" / "state.json")
        if not saved:
            return None
        path = self.path / "state" / Path(saved["tensors"]).name
        try:
            return safetensors.torch.load(path.read_bytes()), saved["facts"]
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{path}: the checkpoint is broken ({error}); type --overwrite to begin again") from error

    def clear_state(self) -> None:
        """Remove the checkpoint, its JSON first: the batch is finished."""
        folder = self.path / "state"
        (folder / "state.json").unlink(missing_ok=True)
        for file in folder.glob("state-*.safetensors"):
            file.unlink(missing_ok=True)

    def write_status(self, state: str, message: str = "", **facts: Any) -> None:
        """Write status.json: ``state``, ``message`` and ``facts`` (seconds, peak_mb, of, ...) over what it said.

        For ``runs/experiment.py`` alone, which knows how a run ended.
        """
        if state not in STATES:
            raise ValueError(f"write_status: state={state!r}; one of {', '.join(STATES)}")
        status = {**self.status, "pictures": len(self.pictures), **facts, "state": state, "message": message}
        write_json(self.path / "status.json", status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
