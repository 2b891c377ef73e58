"""What each file of a run folder holds: the keys that its readers need, and their types.

    recipe.toml     Recipe       frames.jsonl     FrameLine, one a line      state/state.json   State
    status.json     Status       pictures.jsonl   Record, one a line         given.json         Given
    measures.json   Measures     along.jsonl      AlongLine, one a line

What a task measures is checked by the schema of that task (report/sections.py). A file may hold more than is named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from bothways.reading import Checked

Condition = Literal["running", "stopped", "failed", "complete"]
STATES: tuple[str, ...] = get_args(Condition)
Whole = Annotated[int, Field(ge=-(2**64), le=2**64)]
Count = Annotated[int, Field(ge=0, le=2**63)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Table = dict[str, Any]


class Share(Checked):
    """[share] of a drawing's settings."""

    sheet: bool = True


class Settings(Checked):
    """[settings]: of any task."""

    recipe: str | None = None
    share: Share | None = None


class Model(Checked):
    """[model]: the facts of the model or flow."""

    name: str = ""
    address: str = ""
    weights: str = ""
    classes: int = 0


class Drawn(Checked):
    """[drawn]: the targets of a drawing."""

    classes: list[str | int] = Field([])
    channels: list[str | int] = Field([])
    layer: str | None = None


class Recipe(Checked):
    """recipe.toml."""

    task: str
    settings: Settings | None = None
    model: Model | None = None
    drawn: Drawn | None = None
    data: Table = Field({})
    versions: dict[str, str] = Field({})


class Doing(Checked):
    """The present stage of a run."""

    name: str
    done: Count
    total: Count


class Status(Checked):
    """status.json."""

    state: Condition = "running"
    message: str = ""
    seconds: Seconds | None = 0.0
    peak_mb: float | None = 0.0
    pictures: Count = 0
    of: Count = 0
    started: str = ""
    step: Count = 0
    steps: Count = 0
    stages: dict[str, Seconds] = Field({})
    doing: Doing | None = None


class FrameLine(Checked):
    """A line of frames.jsonl."""

    batch: Count
    step: Count
    t: float | None
    stats: dict[str, float | str | None]


class Record(Checked):
    """A line of pictures.jsonl. file, alpha: below the run folder."""

    index: Count
    file: str
    alpha: str = ""
    name: str | None = Field(None, alias="class")
    label: Whole | None = None
    seed: Whole = 0
    unfinished: bool = False


class Measures(Checked):
    """What every measures.json holds, beside what its task measures."""

    citations: list[str] = Field([])
    cost: dict[str, float | dict[str, float | None] | None] = Field({})
    notes: list[str] = Field([])


class AlongLine(Checked):
    """A line of along.jsonl."""

    step: Count
    n: Count = 0
    flow_matching: float | None = None
    information: list[dict[str, float | None]] = Field([])
    given_noise: dict[str, float | None] | None = None
    accuracy: dict[str, float | None] | None = None
    probe: dict[str, float | None] | None = None


class HeldLine(Checked):
    """A line of held.jsonl."""

    step: Count
    loss: float


class State(Checked):
    """state/state.json: the number of the checkpoint, the file of its tensors, and facts that its task knows."""

    serial: Count
    tensors: str
    facts: Table


class Given(Checked):
    """given.json: the tables of what a caller set, and the names of those settings that were Python objects.

    code: {Python file that the settings name: the digest of what it held}.
    """

    settings: Table
    objects: list[str]
    code: dict[str, str] = Field(default_factory=dict)
