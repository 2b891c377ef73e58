"""What visitors send and are sent, as JSON; the schema of the OpenAPI page is made of these."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bothways.serve.drawings import PICTURES_AT_MOST, STEPS_AT_MOST

Word = Annotated[str, Field(max_length=500)]


class DrawingForm(BaseModel):
    """A drawing. Without classes and prompts it is of no class."""

    model_config = ConfigDict(extra="forbid")

    model: Word | None = Field(None, description="name of a model of GET /models; may be left out where there is one")
    classes: list[Word] = Field([], max_length=PICTURES_AT_MOST, description="names or numbers of classes")
    prompts: list[Word] = Field([], max_length=16, description="texts, for a model that reads text")
    recipe: Word | None = Field(None, description="name of a recipe, such as icons or das")
    n: int = Field(1, ge=1, le=PICTURES_AT_MOST, description="pictures of each class")
    steps: int | None = Field(None, ge=1, le=STEPS_AT_MOST, description="steps; if left out, those of the recipe")
    seed: int = Field(0, ge=0, le=2**31 - 1)


class ModelFacts(BaseModel):
    """A model. answers: which of classify, features and generate it takes; flow: whether features have a depth."""

    name: str
    height: int
    width: int
    classes: int
    class_names: list[str]
    flow: bool
    answers: list[str]


class Answer(BaseModel):
    """A class of a picture, or a label with a probability of its own; of a model of numbers a number, its value."""

    name: str
    number: int
    probability: float | None = None
    value: float | None = None


class Classes(BaseModel):
    """The most probable classes, the most probable first; of a model of numbers all of these."""

    model: str
    answers: list[Answer]


class FeatureVectors(BaseModel):
    """Features by name: of a layer, or as walked_0.5 of a flow."""

    model: str
    features: dict[str, list[float]]


class PictureFacts(BaseModel):
    """A picture of a job. address: where it is fetched as PNG."""

    number: int
    caption: str
    address: str


class JobFacts(BaseModel):
    """How a job stands.

    state: waiting, preparing, running, judging, complete, stopped or failed. ahead: jobs before it. seconds: of its
    steps. message: why it stopped or failed. notes: what was warned of.
    """

    id: str
    state: str
    message: str
    doing: str
    ahead: int
    step: int
    steps: int
    seconds: float
    notes: list[str]
    pictures: list[PictureFacts]


class Error(BaseModel):
    """What went wrong, in a line."""

    error: str


class State(BaseModel):
    """How the service stands."""

    status: str
