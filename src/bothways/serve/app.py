"""The routes of the service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

import torch
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from bothways.representation.tuning.targets import NUMBERS, largest
from bothways.serve.batching import Batcher, FullError
from bothways.serve.drawings import Drawings, request_of
from bothways.serve.forms import Answer, Classes, DrawingForm, Error, FeatureVectors, JobFacts, ModelFacts, State
from bothways.serve.gate import AGAIN, Gate, RefusedError, say
from bothways.serve.metrics import Metrics
from bothways.serve.models import Asked, Served
from bothways.serve.page import html_of
from bothways.studio import jobs
from bothways.types import RunError, UserError
from bothways.version import __version__

BATCH = 32  # pictures of one call of a model
ROOM = 256  # pictures that may wait for a model
ANSWER_WITHIN = 60.0  # seconds
DECODERS = 2  # pictures that are decoded at once: each may take a gigabyte
STEPS_AT_MOST, LAYERS_AT_MOST = 100, 16
Name = Annotated[str | None, Query(max_length=500, description="name of a model; needed where there are several")]
OPTION = re.compile(r"--(\w)")  # of the command line, which a visitor does not have


class Service:
    """What the routes share. models: {name: model}; drawings: None where the service draws nothing.

    batch: pictures of one call of a model. within: seconds that a visitor waits for an answer.
    """

    def __init__(
        self, models: Mapping[str, Served], drawings: Drawings | None, *, batch: int = BATCH, room: int = ROOM,
        within: float = ANSWER_WITHIN, device: str = "cpu", dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.models, self.drawings, self.within = models, drawings, within
        self.device, self.dtype = device, dtype
        self.gate: Gate | None = None
        self.metrics = Metrics(lambda: self.paths)
        self.paths: frozenset[str] = frozenset()
        self.decoders = ThreadPoolExecutor(DECODERS, "bothways decoding")
        self.batchers = {
            name: Batcher(one.answer, batch, room, self.metrics.batch_of(name)) for name, one in models.items()
        }

    @property
    def ready(self) -> bool:
        return all(batcher.alive for batcher in self.batchers.values())

    def model(self, name: str | None) -> Served:
        """The model of that name, or the only one. Raises RefusedError."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None or name not in self.models:
            told = "name one with model" if name is None else f"there is no model {name!r}"
            raise RefusedError(404 if name else 400, f"{told}; there are {', '.join(self.models)}")
        return self.models[name]

    async def answer(self, name: str | None, asked: Asked, data: bytes) -> tuple[Served, Any]:
        """Decode a picture, have it answered in a batch, and wait for that."""
        one = self.model(name)
        one.check(asked)
        if not data:
            raise RefusedError(400, "no picture was sent; the body of the request is the file of one")
        try:
            async with asyncio.timeout(self.within):
                self.batchers[one.name].check()  # before a picture is decoded for nothing
                loop = asyncio.get_running_loop()
                image = await loop.run_in_executor(self.decoders, one.picture, data)
                found = self.batchers[one.name].submit(asked, image)
                return one, await asyncio.wrap_future(found)
        except TimeoutError:
            told = f"no answer within {self.within:g} seconds; ask again when less is asked of the service"
            raise RefusedError(503, told, **AGAIN) from None

    def close(self) -> None:
        for batcher in self.batchers.values():
            batcher.close()
        self.decoders.shutdown(cancel_futures=True)
        if self.drawings is not None:
            self.drawings.close()


def build_app(service: Service, token: str = "", *, local: bool = True) -> Gate:
    """The whole application, ASGI. token: what requests carry, or ""; local: whether it is bound to loopback."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> Any:
        yield
        await asyncio.to_thread(service.close)

    errors: dict[int | str, dict[str, Any]] = {
        code: {"model": Error} for code in (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
    }
    app = FastAPI(
        title="bothways", version=__version__, lifespan=life, docs_url=None, redoc_url=None, responses=errors,
        description="Classes and features of pictures by the models of this service, and drawings by them.",
    )  # fmt: skip
    _add_state(app, service)
    _add_answers(app, service)
    _add_jobs(app, service)
    app.add_route("/docs", lambda request: HTMLResponse(html_of(app.openapi())))
    service.paths = frozenset(path for route in app.routes if "{" not in (path := getattr(route, "path", "{")))
    _add_errors(app)
    service.gate = Gate(app, token, local, service.metrics.request)
    return service.gate


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health() -> State:
        """Whether the service runs."""
        return State(status="ok")

    @app.get("/ready", response_model=State)
    def ready() -> Any:
        """Whether the models are loaded and answer; 503 where not."""
        return State(status="ready") if service.ready else JSONResponse({"error": "not ready"}, 503)

    @app.get("/models")
    def models() -> list[ModelFacts]:
        """The models, by the names that other requests give."""
        return [ModelFacts(**one.facts()) for one in service.models.values()]

    @app.get("/metrics", response_class=Response)
    def metrics() -> Any:
        """Counters and gauges for Prometheus."""
        counts = service.drawings.counts() if service.drawings is not None else {}
        text, kind = service.metrics.text(service.batchers, counts, service.gate.held if service.gate else 0)
        return Response(text, media_type=kind)


def _add_answers(app: FastAPI, service: Service) -> None:
    binary = {"schema": {"type": "string", "format": "binary"}}
    picture: dict[str, Any] = {"openapi_extra": {"requestBody": {"required": True, "content": {"image/*": binary}}}}
    picture["dependencies"] = [Depends(_refuse_others)]

    @app.post("/classify", **picture, response_model_exclude_none=True)
    async def classify(request: Request, model: Name = None, top: Annotated[int, Query(ge=1, le=1000)] = 5) -> Classes:
        """The most probable classes of a picture, which is the body of the request; of a model of numbers, these."""
        one, found = await service.answer(model, Asked("classes"), await request.body())
        own = "value" if one.target == NUMBERS else "probability"
        values, numbers = (found, torch.arange(len(found))) if own == "value" else largest(found, top)
        answers = [
            Answer(name=one.spec.class_name(number), number=number, **{own: value})
            for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
        ]
        return Classes(model=one.name, answers=answers)

    @app.post("/features", **picture)
    async def features(
        request: Request, model: Name = None,
        layer: Annotated[list[str] | None, Query(max_length=LAYERS_AT_MOST, description="layers to read")] = None,
        depth: Annotated[float | None, Query(ge=0, le=1, description="of a flow: 0 is the picture, 1 noise")] = None,
        steps: Annotated[int, Query(ge=1, le=STEPS_AT_MOST, description="Euler steps of a flow to its depth")] = 5,
    ) -> FeatureVectors:  # fmt: skip
        """Features of a picture, which is the body: of layers, or of a flow walked to a depth."""
        asked = Asked("features", tuple(dict.fromkeys(layer or ())), depth, steps if depth is not None else 5)
        one, found = await service.answer(model, asked, await request.body())
        return FeatureVectors(model=one.name, features={name: vector.tolist() for name, vector in found.items()})


def _refuse_others(request: Request) -> None:
    """Raise RefusedError for a field that the address does not have, and for a picture inside a form."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise RefusedError(422, f"there is no field {name[:40]!r}; there are {', '.join(known)}")
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusedError(415, "the picture came inside a form; send its file alone, as the body of the request")


def _add_jobs(app: FastAPI, service: Service) -> None:
    def found(name: str) -> jobs.Job:
        job = service.drawings.find(name) if service.drawings is not None else None
        if job is None:
            raise RefusedError(404, "there is no such job; it may have been let go")
        return job

    def facts(name: str, job: jobs.Job) -> JobFacts:
        assert service.drawings is not None
        return JobFacts(**service.drawings.facts(name, job))

    @app.post("/generate", status_code=202)
    def generate(form: DrawingForm) -> JobFacts:
        """Queue a drawing; its state stands at /jobs/ID."""
        if service.drawings is None:
            raise RefusedError(404, "this service draws nothing")
        request = request_of(
            service.model(form.model), form.classes, form.prompts, form.recipe, form.n, form.steps, form.seed,
            service.device, service.dtype,
        )  # fmt: skip
        name = service.drawings.submit(request)
        return facts(name, found(name))

    @app.get("/jobs/{name}")
    def job(name: str) -> JobFacts:
        """How a job stands."""
        return facts(name, found(name))

    @app.delete("/jobs/{name}")
    def stop(name: str) -> JobFacts:
        """Stop a job after its step; what was drawn so far is kept."""
        found(name).stop()
        return facts(name, found(name))

    @app.get("/jobs/{name}/pictures/{number}", response_class=Response)
    def picture(name: str, number: int) -> Any:
        """A picture of a job as PNG, as it is now."""
        png = Drawings.picture(found(name), number)
        if png is None:
            raise RefusedError(404, f"the job has no picture {number}")
        return Response(png, media_type="image/png")


def _add_errors(app: FastAPI) -> None:
    """Whatever goes wrong is one line of JSON."""

    def told(kind: type[Exception], line: Callable[[Any], tuple[int, str, dict[str, str]]]) -> None:
        async def handler(request: Request, error: Exception) -> Any:
            return _Said(*line(error))

        app.add_exception_handler(kind, handler)

    told(RefusedError, lambda error: (error.status, str(error), error.headers))
    told(FullError, lambda error: (503, str(error), AGAIN))
    told(jobs.FullError, lambda error: (429, str(error), {"retry-after": "10"}))
    told(UserError, lambda error: (400, OPTION.sub(r"\1", str(error)), {}))
    told(RunError, lambda error: (500, OPTION.sub(r"\1", str(error)), {}))
    told(RequestValidationError, lambda error: (422, _first(error), {}))
    told(HTTPException, lambda error: (error.status_code, f"{error.detail}; see /docs", dict(error.headers or {})))
    told(Exception, lambda error: (500, "the service failed at this request; its log says why", {}))


class _Said:
    """An answer of ``gate.say`` in place of a response."""

    def __init__(self, status: int, text: str, headers: dict[str, str]) -> None:
        self._told = status, text, headers

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        return say(send, *self._told)


def _first(error: Any) -> str:
    """The first fault of a form, without what was sent."""
    fault = error.errors()[0]
    if fault["type"] == "model_attributes_type":
        return "the body is no JSON table; send one with the header Content-Type: application/json"
    place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query"))
    return f"{place or 'the body'}: {fault['msg']}"
