"""The service by HTTP: the same answers as the command line, nothing of this machine, and one line for a fault."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bothways
from bothways.data.readers.decoding import decode_image
from bothways.representation.features import pooled
from bothways.runs import to_png
from bothways.types import UserError
from held_work import wait
from picture_bomb import bomb
from small_flow import write_small_flow

pytest.importorskip("fastapi", reason="fastapi is not here")
pytest.importorskip("prometheus_client", reason="prometheus_client is not here")

from bothways.serve import gate
from bothways.serve.app import Service, build_app
from bothways.serve.drawings import Drawings
from bothways.serve.models import all_served

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
TOKEN = "a-token-of-some-length"


def photo(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A PNG of another size than the models'."""
    values = np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(kept := io.BytesIO(), "PNG")
    return kept.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("serve")
    models = all_served([TOY, str(write_small_flow(folder / "small"))])
    (folder / "runs").mkdir()
    return Service(models, Drawings(folder / "runs", 10.0, owned=True), batch=8)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Any]:
    from starlette.testclient import TestClient

    with TestClient(build_app(service), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def toy() -> Any:
    return bothways.load_model(TOY)


# ---- the answers ----------------------------------------------------------------------------------------------------


def test_classes_are_those_of_predict(client: Any, tmp_path: Path) -> None:
    content = photo(0)
    (tmp_path / "photo.png").write_bytes(content)
    answer = client.post("/classify", params={"model": "toy_model.py:build", "top": 3}, content=content).json()
    (told,) = bothways.predict(TOY, [tmp_path / "photo.png"], top=3)
    assert answer["model"] == "toy_model.py:build"
    assert [(one["name"], one["number"]) for one in answer["answers"]] == [
        (one.name, one.number) for one in told.answers
    ]
    apart = [a["probability"] - b.probability for a, b in zip(answer["answers"], told.answers, strict=True)]
    assert max(map(abs, apart)) < 1e-6


def test_of_equal_outputs_the_first_classes_stand_first(tmp_path: Path) -> None:
    """As in the top-5 accuracy; torch.topk put them in any order."""
    (tmp_path / "flat.py").write_text(
        "import torch\nfrom bothways import ModelSpec\n\n\nclass Flat(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.ones(len(x), 100) * (torch.arange(100) != 1)\n\n\n"
        "def build():\n    return Flat(), ModelSpec(size=8, mean=(0,) * 3, std=(1,) * 3, classes=100)\n"
    )
    address, content = f"{tmp_path / 'flat.py'}:build", photo(0)
    (tmp_path / "photo.png").write_bytes(content)
    (told,) = bothways.predict(address, [tmp_path / "photo.png"], top=4)
    assert [answer.number for answer in told.answers] == [0, 2, 3, 4]
    from starlette.testclient import TestClient

    app = build_app(Service(all_served([address]), None))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        found = client.post("/classify", params={"top": 4}, content=content).json()["answers"]
    assert [answer["number"] for answer in found] == [0, 2, 3, 4]


def test_two_hundred_at_once_are_each_answered_with_their_own(client: Any, toy: Any, service: Service) -> None:
    contents = [photo(seed) for seed in range(200)]
    with ThreadPoolExecutor(40) as pool:
        told = list(
            pool.map(lambda one: client.post("/classify?model=toy_model.py:build&top=4", content=one), contents)
        )
    assert {answer.status_code for answer in told} == {200}
    pixels = torch.stack([torch.from_numpy(decode_image(one, 16).copy()).permute(2, 0, 1) for one in contents])
    with torch.no_grad():
        alone = torch.cat([toy.outputs(one[None].float() / 255) for one in pixels]).double().softmax(1)
    for row, answer in zip(alone, told, strict=True):
        for one in answer.json()["answers"]:
            assert abs(one["probability"] - float(row[one["number"]])) < 1e-6


def test_features_are_those_of_a_layer_and_of_a_depth(client: Any, toy: Any, service: Service) -> None:
    content = photo(3)
    query = {"model": "toy_model.py:build", "layer": ["body", "outputs"]}
    found = client.post("/features", params=query, content=content).json()["features"]
    image = torch.from_numpy(decode_image(content, 16).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        seen = toy.features(image, ["body", "outputs"])
    assert (torch.tensor(found["body"]) - seen["body"].mean((2, 3))[0]).abs().max() < 1e-6
    assert (torch.tensor(found["outputs"]) - seen["outputs"][0]).abs().max() < 1e-6
    own = client.post("/features", params={"model": "toy_model.py:build"}, content=content).json()["features"]
    assert list(own) == [toy.feature()]
    walked = client.post("/features?model=small&depth=0.5&steps=3", content=content).json()["features"]
    flow = bothways.load_flow(service.models["small"].address)
    image = torch.from_numpy(decode_image(content, 8).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        right = pooled(bothways.encode(flow, image, depth=0.5, steps=3))[0]
    assert (torch.tensor(walked["walked_0.5"]) - right).abs().max() < 1e-5


def drawn(client: Any, **form: Any) -> dict[str, Any]:
    answer = client.post("/generate", json={"model": "toy_model.py:build", "recipe": "das", **form})
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_a_drawing_is_that_of_the_function_and_nothing_waits_for_it(client: Any) -> None:
    long = drawn(client, classes=["anchor"], steps=2000)
    assert wait(lambda: client.get(f"/jobs/{long['id']}").json()["step"] > 1)
    assert client.post("/classify?model=toy_model.py:build", content=photo(1)).status_code == 200
    short = drawn(client, classes=["barrel", "0"], steps=3, seed=5)
    assert (short["state"], short["ahead"]) == ("waiting", 1)
    assert client.delete(f"/jobs/{long['id']}").json()["id"] == long["id"]
    assert wait(lambda: client.get(f"/jobs/{short['id']}").json()["state"] == "complete")
    assert client.get(f"/jobs/{long['id']}").json()["state"] == "stopped"
    told = client.get(f"/jobs/{short['id']}").json()
    assert [one["number"] for one in told["pictures"]] == [0, 1]
    same = bothways.generate(TOY, ["barrel", "0"], recipe="das", n=1, steps=3, seed=5)
    for one in told["pictures"]:
        assert client.get(one["address"]).content == to_png(same.images[one["number"]])
    assert client.get(f"/jobs/{short['id']}/pictures/7").status_code == 404


def test_drawings_that_are_let_go_leave_nothing(service: Service, client: Any, monkeypatch: Any) -> None:
    assert service.drawings is not None
    monkeypatch.setattr(service.drawings._jobs, "kept", 1)
    names = [drawn(client, classes=["anchor"], steps=1)["id"] for _ in range(3)]
    assert wait(lambda: client.get(f"/jobs/{names[-1]}").json()["state"] == "complete")
    drawn(client, classes=["anchor"], steps=1)
    assert client.get(f"/jobs/{names[0]}").status_code == 404
    jobs = {job.folder for job in service.drawings._jobs.all}
    assert {path for path in service.drawings._jobs.runs.iterdir() if path.is_dir()} <= jobs


# ---- what is refused ------------------------------------------------------------------------------------------------

MODEL = "?model=toy_model.py:build"
SECRET = {"model": "toy_model.py:build", "classes": ["anchor"]}
REFUSED: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/", {}, 404, "see /docs"),
    ("GET", "/classify", {}, 405, "see /docs"),
    ("POST", "/classify", {"content": photo(0)}, 400, "name one with model; there are toy_model.py:build, small"),
    ("POST", "/classify?model=x", {"content": photo(0)}, 404, "there is no model 'x'"),
    ("POST", "/classify?model=/etc/passwd", {"content": photo(0)}, 404, "there is no model"),
    ("POST", "/classify?model=small", {"content": photo(0)}, 400, "has no classes"),
    ("POST", f"/classify{MODEL}", {}, 400, "no picture was sent"),
    ("POST", f"/classify{MODEL}", {"content": b"no picture"}, 400, "the picture cannot be read"),
    ("POST", f"/classify{MODEL}", {"content": bomb(60_000, 60_000)}, 400, "pixels are more than"),
    ("POST", f"/classify{MODEL}", {"content": photo(0)[:200]}, 400, "the picture cannot be read"),
    ("POST", f"/classify{MODEL}&top=0", {"content": photo(0)}, 422, "top: "),
    ("POST", f"/classify{MODEL}&topp=2", {"content": photo(0)}, 422, "no field 'topp'; there are model, top"),
    ("POST", f"/features{MODEL}&layers=body", {"content": photo(0)}, 422, "there are model, layer, depth, steps"),
    ("POST", f"/classify{MODEL}", {"files": {"file": photo(0)}}, 415, "send its file alone, as the body"),
    ("POST", f"/features{MODEL}&layer=bodyy", {"content": photo(0)}, 400, "body"),
    ("POST", f"/features{MODEL}&depth=0.5", {"content": photo(0)}, 400, "is no flow"),
    ("POST", "/features?model=small", {"content": photo(0)}, 400, "give a depth"),
    ("POST", "/features?model=small&depth=2", {"content": photo(0)}, 422, "depth: "),
    ("POST", "/features?model=small&depth=nan", {"content": photo(0)}, 422, "depth: "),
    ("POST", "/features?model=small&depth=1&steps=101", {"content": photo(0)}, 422, "steps: "),
    ("POST", f"/features{MODEL}" + "&layer=a" * 17, {"content": photo(0)}, 422, "layer: "),
    ("POST", "/generate", {"content": b"{}"}, 422, "Content-Type: application/json"),
    ("POST", "/generate", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
    ("POST", "/generate", {"content": b"[" * 90_000, "headers": {"Content-Type": "application/json"}}, 400, ""),
    ("POST", "/generate", {"json": {**SECRET, "recipe": "my.py:recipe"}}, 400, "there is no recipe"),
    ("POST", "/generate", {"json": {**SECRET, "recipe": "/etc/passwd.toml"}}, 400, "there is no recipe"),
    ("POST", "/generate", {"json": {**SECRET, "model": TOY}}, 404, "there is no model"),
    ("POST", "/generate", {"json": {**SECRET, "weights": "x.safetensors"}}, 422, "weights: "),
    ("POST", "/generate", {"json": {**SECRET, "data": "/etc"}}, 422, "data: "),
    ("POST", "/generate", {"json": {**SECRET, "out": "/etc"}}, 422, "out: "),
    ("POST", "/generate", {"json": {**SECRET, "classes": ["nothing"]}}, 400, "no class 'nothing'"),
    ("POST", "/generate", {"json": {**SECRET, "n": 65}}, 422, "n: "),
    ("POST", "/generate", {"json": {**SECRET, "classes": ["all"], "n": 64}}, 400, "pictures are more than the 64"),
    ("POST", "/generate", {"json": {**SECRET, "seed": -1}}, 422, "seed: "),
    ("POST", "/generate", {"json": {**SECRET, "prompts": ["my.py:prompt"]}}, 400, "reads no text"),
    ("POST", "/generate", {"json": {**SECRET, "model": "small"}}, 400, "it is a flow"),
    ("POST", "/generate", {"content": b" " * (gate.FORM_AT_MOST + 1)}, 413, "at most 100,000 bytes"),
    ("POST", f"/classify{MODEL}", {"content": b" " * (gate.PICTURE_AT_MOST + 1)}, 413, "at most 20,000,000 bytes"),
    ("GET", "/jobs/x", {}, 404, "there is no such job"),
    ("GET", "/jobs/../../etc/passwd", {}, 404, ""),
    ("GET", "/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {}, 404, ""),
    ("GET", "/jobs/x/pictures/..%2f..%2fetc%2fpasswd", {}, 404, ""),
    ("DELETE", "/jobs/x", {}, 404, "there is no such job"),
    ("PUT", "/generate", {}, 405, ""),
    ("GET", "/static/../pyproject.toml", {}, 404, ""),
]


@pytest.mark.parametrize(("method", "path", "sent", "status", "says"), REFUSED)
def test_a_fault_is_one_line_of_json(client: Any, method: str, path: str, sent: Any, status: int, says: str) -> None:
    answer = client.request(method, path, **sent)
    told = answer.json()
    assert (answer.status_code, set(told)) == (status, {"error"})
    line = told["error"]
    assert says in line
    assert "\n" not in line
    assert 0 < len(line) < 400
    assert "--" not in line
    assert "<" not in line or "<" not in path
    assert str(Path(TOY).parent) not in answer.text.replace(TOY, "")  # no folder of this machine but what was sent
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_model_that_breaks_at_a_picture_says_so_and_goes_on(client: Any, service: Service, monkeypatch: Any) -> None:
    one = service.models["toy_model.py:build"]
    assert one.model is not None

    def breaks(image: Any) -> Any:
        raise KeyError("/a/place/of/mine")

    monkeypatch.setattr(one.model, "outputs", breaks)
    answer = client.post(f"/classify{MODEL}", content=photo(0))
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "the service failed at this request; its log says why"},
    )
    monkeypatch.setattr(one.model, "outputs", lambda image: torch.full((len(image), 4), float("nan")))
    answer = client.post(f"/classify{MODEL}", content=photo(0))
    assert (answer.status_code, "not finite" in answer.json()["error"]) == (500, True)
    monkeypatch.undo()
    assert client.post(f"/classify{MODEL}", content=photo(0)).status_code == 200


def test_when_too_many_wait_the_next_is_told_to_come_again(client: Any, service: Service, monkeypatch: Any) -> None:
    one, batcher = service.models["toy_model.py:build"], service.batchers["toy_model.py:build"]
    free, begun, outputs = threading.Event(), threading.Event(), one.model.outputs  # type: ignore[union-attr]

    def slow(image: Any) -> Any:
        begun.set()
        assert free.wait(60)
        return outputs(image)

    monkeypatch.setattr(one.model, "outputs", slow)
    monkeypatch.setattr(batcher, "_room", 2)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.post, f"/classify{MODEL}", content=photo(0))
        assert begun.wait(60)
        more = [pool.submit(client.post, f"/classify{MODEL}", content=photo(seed)) for seed in (1, 2)]
        assert wait(lambda: batcher.waiting == 2)
        answer = client.post(f"/classify{MODEL}", content=photo(3))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "2 pictures wait already" in answer.json()["error"]
        assert 'bothways_pictures_waiting{model="toy_model.py:build"} 2.0' in client.get("/metrics").text
        assert client.get("/health").json() == {"status": "ok"}
        free.set()
        assert {one.result().status_code for one in (first, *more)} == {200}


def test_who_waits_too_long_is_told_and_not_computed(client: Any, service: Service, monkeypatch: Any) -> None:
    one, batcher = service.models["toy_model.py:build"], service.batchers["toy_model.py:build"]
    free, sizes, outputs = threading.Event(), [], one.model.outputs  # type: ignore[union-attr]

    def slow(image: Any) -> Any:
        sizes.append(len(image))
        assert free.wait(60)
        return outputs(image)

    monkeypatch.setattr(one.model, "outputs", slow)
    monkeypatch.setattr(service, "within", 0.2)
    for seed in (0, 1):  # the first is at work, the second waits
        answer = client.post(f"/classify{MODEL}", content=photo(seed))
        assert (answer.status_code, "no answer within 0.2 seconds" in answer.json()["error"]) == (503, True)
    monkeypatch.setattr(service, "within", 60.0)
    free.set()
    assert client.post(f"/classify{MODEL}", content=photo(2)).status_code == 200
    assert sizes == [1, 1]
    assert batcher.waiting == 0


def test_a_full_queue_of_drawings_takes_no_more(client: Any, service: Service, monkeypatch: Any) -> None:
    from bothways.studio import jobs

    monkeypatch.setattr(jobs, "WAITING_AT_MOST", 0)
    answer = client.post("/generate", json=SECRET)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert "which are the most" in answer.json()["error"]


# ---- who may ask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{"Host": "elsewhere.example"}, {"Origin": "http://elsewhere.example"}, {"Origin": "null"},
     {"Sec-Fetch-Site": "cross-site"}, {"Host": ""}, {"Host": "127.0.0.1.elsewhere.example"}],
)  # fmt: skip
def test_no_page_of_another_site_asks(client: Any, headers: dict[str, str]) -> None:
    for method, path in (("POST", f"/classify{MODEL}"), ("POST", "/generate"), ("GET", "/models"), ("GET", "/health")):
        answer = client.request(method, path, headers=headers, **({"content": photo(0)} if method == "POST" else {}))
        assert (answer.status_code, "this machine" in answer.json()["error"]) == (403, True)


def test_without_the_token_nothing_is_answered(monkeypatch: Any) -> None:
    from starlette.testclient import TestClient

    compared: list[tuple[bytes, bytes]] = []
    compare = gate.secrets.compare_digest
    monkeypatch.setattr(gate.secrets, "compare_digest", lambda *pair: compared.append(pair) or compare(*pair))
    app = build_app(Service(all_served([TOY]), None), TOKEN, local=False)
    with TestClient(app, base_url="http://service.example") as client:
        for path in ("/models", "/metrics", "/docs", "/openapi.json", "/jobs/x", "/nothing"):
            for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"},
                          {"Authorization": "Bearer "}, {"Authorization": "Bearer é".encode("latin-1")}):  # fmt: skip
                answer = client.get(path, headers=given)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert TOKEN not in answer.text
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").json() == {"status": "ready"}
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/models", headers=right).json()[0]["name"] == "toy_model.py:build"
        assert client.post("/classify", headers=right, content=photo(0)).status_code == 200  # the only model
        assert client.post("/generate", headers=right, json={}).status_code == 404
    assert (TOKEN.encode(), TOKEN.encode()) in compared  # in constant time
    assert (f"{TOKEN}x".encode(), TOKEN.encode()) in compared


# ---- what it says of itself -----------------------------------------------------------------------------------------


def test_the_page_names_every_route_and_asks_no_one(client: Any) -> None:
    page, described = client.get("/docs").text, client.get("/openapi.json").json()
    for path, ways in described["paths"].items():
        for method in ways:
            assert f"<code>{method.upper()} {path}</code>" in page
    assert {"/classify", "/features", "/generate", "/jobs/{name}", "/metrics", "/ready"} <= set(described["paths"])
    assert not re.search(r"<script|https?://|src=|@import", page)
    assert 'href="#JobFacts"' in page


def test_requests_are_counted_and_their_names_are_few(client: Any) -> None:
    for number in range(30):
        client.get(f"/nothing-{number}")
        client.get(f"/jobs/none-{number}")
    client.request("BREW", "/classify")
    told = client.get("/metrics").text
    assert 'bothways_requests_total{method="GET",path="other",status="404"}' in told
    assert len(re.findall(r"^bothways_requests_total\{", told, re.MULTILINE)) < 40
    assert not re.search("nothing-|none-|BREW", told)
    assert re.search(r'bothways_batch_size_count\{model="toy_model.py:build"\} \d', told)
    assert "process_resident_memory_bytes" in told
    assert 'path="/jobs/ID"' in told


def test_models_are_named_without_a_path(client: Any) -> None:
    told = client.get("/models")
    assert [one["name"] for one in told.json()] == ["toy_model.py:build", "small"]
    assert [one["answers"] for one in told.json()] == [["classify", "features", "generate"], ["features"]]
    assert "/" not in json.dumps([one["name"] for one in told.json()])
    with pytest.raises(UserError, match="two models would be called"):
        all_served([TOY, f"other/{Path(TOY).name}"])
    with pytest.raises(UserError, match="no bundled model"):
        all_served(["bundled:nothing-like-it"])
