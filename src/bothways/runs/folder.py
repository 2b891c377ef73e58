"""The run folder: settings, frames, pictures, measures and checkpoint of one run.

    recipe.toml     every setting           frames.jsonl    one line per step       images/   8-bit PNG
    status.json     state and progress       pictures.jsonl  one line per picture    state/    the unfinished batch
    measures.json   results, such as judges  given.json      what the caller set, for a resume
    film/           pictures of some steps, of a drawing with a GIF or a video

A process killed at any moment loses at most the steps since the last ``save_state``.
"""

from __future__ import annotations

import contextlib
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from filelock import FileLock
from pydantic import BaseModel
from torch import Tensor

from bothways.brief import part_of_name
from bothways.budget import free_memory
from bothways.reading import check, is_folder, read_bytes
from bothways.runs import inventory
from bothways.runs.files import (
    append_lines,
    cut_torn_line,
    from_png,
    inside,
    json_line,
    read_json,
    read_lines,
    reason,
    replace_file,
    to_png,
    write_json,
)
from bothways.runs.inventory import RECIPE
from bothways.runs.recipe import as_toml, read_tables, require_equal
from bothways.runs.schema import STATES, FrameLine, Measures, Record, State, Status
from bothways.types import Frame, RunError, UserError

MEASURES, STATE = "measures.json", "state.json"
PHOTOS = "photos"  # the folder of the input pictures of a run
NEW_STATUS = {"state": "running", "message": "", "seconds": 0.0, "peak_mb": 0.0, "pictures": 0, "of": 0}


class RunFolder:
    """A run on disk, from :meth:`create` or :meth:`open`. path: the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        settings: Mapping[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        prolongs: Sequence[str] = (),
    ) -> RunFolder:
        """Create the folder of a new run, or with ``resume`` open that of an unfinished one.

        settings: the tables of recipe.toml ("settings", "model", "versions"); None values are omitted.
        overwrite: remove an existing run: the files that it wrote itself, and nothing through a link.
        resume: continue an existing run, whose settings must equal these but for those of ``prolongs``.
        The folder is locked against other processes until ``release``.
        Raises UserError if the path is taken, is not a run folder, cannot be written, is written by another process, or
        the settings differ.
        """
        folder = cls(Path(path))
        text = as_toml(settings)
        try:
            inventory.begins(folder.path, overwrite=overwrite, resume=resume)  # refuses before anything is made
            folder.path.mkdir(parents=True, exist_ok=True)
            with folder._locked():
                if inventory.begins(folder.path, overwrite=overwrite, resume=resume):
                    inventory.remove(folder.path)
                    folder._begin(text)
                else:
                    require_equal(folder.path, folder.settings, tomllib.loads(text), prolongs)
                    if prolongs:
                        replace_file(folder.path / RECIPE, text.encode())
                    folder._go_on()
        except RunError as error:
            raise UserError(str(error).split(";")[0] + "; choose a folder that can be written") from error
        except OSError as error:
            raise UserError(f"{path}: {reason(error)}; choose a folder that can be written") from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run folder for reading. Raises UserError if it is missing or not a run folder."""
        folder = cls(Path(path))
        if not is_folder(folder.path):
            raise UserError(f"{path}: no such folder; type the folder that a run wrote")
        read_tables(folder.path)  # raises UserError for what is no run, or one of another layout
        return folder

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder; the lock stays unless an error ends the context."""
        self._lock = inventory.lock(self.path)
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Unlock the folder for other processes."""
        if self._lock is not None:
            self._lock.release()

    def _begin(self, recipe: str) -> None:
        inventory.begin(self.path)
        replace_file(self.path / RECIPE, recipe.encode())
        started = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path / "status.json", {**NEW_STATUS, "started": started})
        (self.path / "images").mkdir(exist_ok=True)

    def _go_on(self) -> None:
        inventory.begin(self.path)
        for name in ("frames.jsonl", "pictures.jsonl"):
            cut_torn_line(self.path / name)
        (self.path / "images").mkdir(exist_ok=True)
        self.write_status("running")

    @property
    def settings(self) -> dict[str, Any]:
        """The tables of recipe.toml. Raises UserError if it cannot be read or has another layout."""
        return read_tables(self.path)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames so far: {"batch", "step", "t", "stats"} of every step."""
        return read_lines(self.path / "frames.jsonl", FrameLine)

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """The records of the finished pictures by their numbers, in which order they are measured."""
        return sorted(read_lines(self.path / "pictures.jsonl", Record), key=lambda record: record["index"])

    @property
    def measures(self) -> dict[str, Any]:
        """The measures written by :meth:`write_measures`; {} before.

        What a task measures is checked by ``report.sections.measures_of``.
        """
        return read_json(self.path / MEASURES, Measures, partly=True)

    @property
    def status(self) -> dict[str, Any]:
        """The status: {"state", "message", "seconds", "peak_mb", "pictures", "of", "started", ...}.

        From ``runs/experiment.py`` also "step" of "steps", "stages" {name: seconds}, and "doing", the present stage.
        """
        return {**NEW_STATUS, **read_json(self.path / "status.json", Status)}

    def append_frame(self, frame: Frame, batch: int | None = None) -> None:
        """Append a frame to frames.jsonl, without its image."""
        line = {
            "batch": frame.batch if batch is None else batch,
            "step": frame.step,
            "t": frame.t,
            "stats": frame.stats,
        }
        append_lines(self.path / "frames.jsonl", [line])

    def drop_frames_after(self, batch: int, step: float = math.inf) -> None:
        """Remove the frames after ``step`` of ``batch``, which a resumed run will make again."""
        frames = self.frames
        kept = [frame for frame in frames if (frame["batch"], frame["step"]) <= (batch, step)]
        if len(kept) < len(frames):
            replace_file(self.path / "frames.jsonl", b"".join(json_line(frame) for frame in kept))

    def image_path(self, record: Mapping[str, Any]) -> Path:
        """The path of the picture of a record. Raises UserError for a path outside the folder."""
        return inside(self.path, str(record.get("file", "")))

    @property
    def _state(self) -> Path:
        """The folder of the checkpoint, which no link leads out of the run folder."""
        return inside(self.path, "state", "a link")

    def given(self, what: str = "*") -> list[Path]:
        """The paths of the input pictures of the run, such as of each "photo". Raises UserError for one outside it."""
        files = sorted((self.path / PHOTOS).glob(f"{what}-*.png"))
        return [inside(self.path, f"{PHOTOS}/{file.name}") for file in files]

    def read_given(self, what: str) -> list[Tensor]:
        """The input pictures, (3,H,W) in [0,1] each. Raises UserError for one outside, missing or damaged."""
        return [self._read(path) for path in self.given(what)]

    def read_picture(self, record: Mapping[str, Any]) -> Tensor:
        """Read the picture of a record: (3,H,W) in [0,1]. Raises UserError if it is missing or damaged."""
        return self._read(self.image_path(record))

    def read_alpha(self, record: Mapping[str, Any]) -> Tensor | None:
        """Read the alpha channel of the picture of a record: (1,H,W) in [0,1]; None if it has none."""
        return self._read(inside(self.path, record["alpha"]), "RGBA")[3:] if "alpha" in record else None

    def _read(self, path: Path, mode: str = "RGB") -> Tensor:
        try:
            return from_png(read_bytes(path), mode)
        except (OSError, UserError) as error:
            raise UserError(f"{path}: cannot be read ({error}); type --overwrite to start again") from error

    def save_pictures(
        self,
        images: Tensor | Sequence[Tensor],
        records: Sequence[Mapping[str, Any]],
        alphas: Tensor | Sequence[Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Write finished pictures, then their records; a picture with the same index is replaced.

        images: (B,3,H,W) in [0,1]. records: B, each with "index"; "file" is made from index and "class" if absent.
        alphas: (B,1,H,W) in [0,1]; a second file, "alpha", then holds the picture as RGBA.
        Returns the records as written. Raises ValueError if B differs, RunError if a file cannot be written.
        """
        done: dict[int, dict[str, Any]] = {}
        (self.path / "images").mkdir(exist_ok=True)
        for place, (image, given) in enumerate(zip(images, records, strict=True)):
            index = int(given["index"])
            name = f"images/{index:04d}-{part_of_name(str(given.get('class') or '').lower()) or 'picture'}.png"
            done[index] = {"index": index, "file": name, **given}
            if alphas is not None:
                file = done[index]["alpha"] = str(Path(done[index]["file"]).with_suffix("")) + "-alpha.png"
                replace_file(inside(self.path, file), to_png(torch.cat([image, alphas[place]])))
            replace_file(self.image_path(done[index]), to_png(image))
        saved = {record["index"]: record for record in self.pictures}
        if saved.keys() & done.keys():
            merged = [record for _, record in sorted((saved | done).items())]
            replace_file(self.path / "pictures.jsonl", b"".join(json_line(record) for record in merged))
        else:
            append_lines(self.path / "pictures.jsonl", done.values())
        return list(done.values())

    def write_measures(self, measures: Mapping[str, Any]) -> None:
        """Write measures.json; NaN and infinities become null."""
        write_json(self.path / MEASURES, measures)

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the checkpoint. The JSON names the tensor file and is written last, so the two always match."""
        folder = self._state
        folder.mkdir(exist_ok=True)
        serial = int(read_json(folder / STATE, State).get("serial", 0)) + 1
        name = f"state-{serial:06d}.safetensors"
        owned = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        replace_file(folder / name, safetensors.torch.save(owned))
        write_json(folder / STATE, {"serial": serial, "tensors": name, "facts": facts})
        for file in folder.glob("state-*.safetensors"):
            if file.name != name:
                file.unlink(missing_ok=True)

    def load_state(self, facts: type[BaseModel] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors (on the CPU) and facts of the last checkpoint; None if there is none. facts: their schema."""
        file = self._state / STATE
        saved = read_json(file, State)
        if not saved:
            return None
        if facts is not None:
            check(saved["facts"], facts, f"{file}: facts", "type --overwrite to start again")
        path = file.with_name(Path(saved["tensors"]).name or "none")
        try:
            return safetensors.torch.load(read_bytes(path, free_memory())), saved["facts"]
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"{path}: the checkpoint is damaged ({error}); type --overwrite to start again") from error

    def clear_state(self) -> None:
        """Remove the checkpoint of a finished batch, its JSON first."""
        (self._state / STATE).unlink(missing_ok=True)
        for file in self._state.glob("state-*.safetensors"):
            file.unlink(missing_ok=True)

    def write_status(self, state: str, message: str = "", **facts: Any) -> None:
        """Update status.json with ``state``, ``message`` and ``facts`` (seconds, peak_mb, of, stages, doing, ...).

        For ``runs/experiment.py`` only, which tracks how a run ended.
        """
        if state not in STATES:
            raise ValueError(f"write_status: state={state!r}; one of {', '.join(STATES)}")
        finished = sum(not record.get("unfinished") for record in self.pictures)
        status = {**self.status, "pictures": finished, **facts, "state": state, "message": message}
        write_json(self.path / "status.json", status)
