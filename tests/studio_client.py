"""The studio without a browser: the application itself, asked as a page asks, by the addresses that a page uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways import registry
from bothways.studio.files.places import open_only
from bothways.studio.guard import Guard, Key
from bothways.studio.jobs import Jobs
from bothways.studio.server import build_app, permit

ADDRESS = "http://127.0.0.1:7860"


@dataclass
class Page:
    """A client of a running application. key: of the server; client: of starlette, whose cookies are a browser's."""

    client: Any
    key: Key
    uploads: Path
    jobs: Jobs
    _config: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        if not self._config:
            self._config = self.client.get("/config").json()
        return self._config

    def part(self, elem_id: str) -> int:
        """The number of a component."""
        return next(one["id"] for one in self.config["components"] if one["props"].get("elem_id") == elem_id)

    def event(self, elem_id: str, what: str = "click") -> dict[str, Any]:
        """What is to happen where a component is clicked, or a file is given to it."""
        wanted = [self.part(elem_id), what]
        return next(one for one in self.config["dependencies"] if wanted in [list(t) for t in one["targets"]])

    def choose_run(self, name: str) -> Any:
        """Open the list of runs, and load the settings of one into its form."""
        shows = [self.part("runs-cards"), self.part("runs-run"), self.part("runs-other")]
        self.do(next(one for one in self.config["dependencies"] if one["outputs"] == shows), [])
        return self.do(self.event("runs-load"), [name])

    def values(self, event: dict[str, Any], **labelled: Any) -> list[Any]:
        """What a form sends that stands as it was opened, but for the fields of these labels (_ for a space)."""
        by_number = {one["id"]: one["props"] for one in self.config["components"]}
        found = []
        for number in event["inputs"]:
            label = str(by_number[number].get("label") or "").replace(" ", "_")
            found.append(labelled.get(label, by_number[number].get("value")))
        return found

    def form(self, event: dict[str, Any], values: Sequence[Any], session: str = "s") -> dict[str, Any]:
        return {"fn_index": event["id"], "data": list(values), "session_hash": session, "event_data": None}

    def do(self, event: dict[str, Any], values: Sequence[Any], session: str = "s") -> Any:
        """What the page is told when this has happened. Raises AssertionError where it is refused."""
        joined = self.client.post("/gradio_api/queue/join", json=self.form(event, values, session))
        assert joined.status_code == 200, (joined.status_code, joined.text)
        told = self.client.get("/gradio_api/queue/data", params={"session_hash": session}).text
        lines = [json.loads(line.removeprefix("data:")) for line in told.splitlines() if line.startswith("data:")]
        return next(line for line in lines if line["msg"] == "process_completed")

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file as the page then names it."""
        (path,) = self.client.post("/gradio_api/upload", files={"files": (name, content)}).json()
        return self.file(path)

    @staticmethod
    def file(path: Any) -> dict[str, Any]:
        name = Path(str(path)).name
        return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}


@contextmanager
def opened(folder: Path, allow: Sequence[str] = ()) -> Iterator[Page]:
    """The studio of ``folder/runs``, entered with its key."""
    from starlette.testclient import TestClient

    (uploads := folder / "uploads").mkdir()
    permit(allow, folder / "runs", uploads)
    jobs, key = Jobs(folder / "runs"), Key.of_port(7860)

    async def build() -> Guard:  # where no event loop runs, Gradio makes one and leaves it open
        return build_app(folder / "runs", jobs, key, uploads)

    app = asyncio.run(build())
    try:
        with TestClient(app, base_url=ADDRESS) as client:
            assert client.get("/", params={"token": key.token}).status_code == 200
            yield Page(client, key, uploads, jobs)
    finally:
        registry.allow_only(None)
        open_only(None)
