"""Who is let in, and to what: the application is asked as a stranger, another page and the holder of the key do."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from bothways.runs import RunFolder, to_png
from bothways.studio import guard
from bothways.studio.server import SESSIONS_AT_MOST, _way_in
from command import refused
from held_work import wait
from studio_client import Page, opened

pytest.importorskip("gradio", reason="gradio is not here")

WITHOUT_KEY = "open the address that bothways studio printed"
MARK = """from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
def build(*args):
    raise KeyError("it ran")
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("studio")
    run = RunFolder.create(folder / "runs" / "old", {"task": "generate", "settings": {"recipe": "das", "seed": 0}})
    run.save_pictures(torch.rand(1, 3, 4, 4), [{"index": 0, "class": "frog", "seed": 0}])
    run.write_status("complete")
    with opened(folder) as found:
        yield found


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A Python file that says whether it was run."""
    (tmp_path / "mine.py").write_text(MARK)
    return tmp_path / "mine.py"


def as_stranger(page: Page, method: str, path: str, **more: Any) -> Any:
    """Without the cookie."""
    kept = dict(page.client.cookies)
    page.client.cookies.clear()
    try:
        return page.client.request(method, path, **more)
    finally:
        page.client.cookies.update(kept)


# ---- the key -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("HEAD", "/"), ("GET", "/config"), ("GET", "/theme.css"), ("GET", "/assets/x.js"),
        ("GET", "/picture?run=old&file=images/0000-frog.png"), ("GET", "/report?run=old"),
        ("GET", "/download?run=old&file=sheet.png"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data?session_hash=s"),
        ("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/call/x"), ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/upload_progress?upload_id=x"), ("GET", "/gradio_api/heartbeat/s"),
        ("GET", "/gradio_api/file=/etc/hostname"), ("POST", "/gradio_api/component_server"), ("PUT", "/anything"),
    ],
)  # fmt: skip
def test_without_the_key_nothing_is_given_or_taken(page: Page, method: str, path: str) -> None:
    form = page.form(event := page.event("generate-start"), page.values(event))
    stale = {"Cookie": f"{page.key.cookie}={page.key.token}; other=1; é"}  # the token is no cookie
    for more in ({}, {"headers": {"Cookie": stale["Cookie"].encode("latin-1")}}):
        answer = as_stranger(page, method, path, **({"json": form} if method == "POST" else {}), **more)
        assert answer.status_code == 403
        assert method == "HEAD" or answer.text.startswith(WITHOUT_KEY)
    assert page.jobs.all == []


@pytest.mark.parametrize("token", ["x", "", "é", "x" * 5000])
def test_another_token_opens_nothing(page: Page, token: str) -> None:
    answer = as_stranger(page, "GET", "/", params={"token": token})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_pages_do_not_have(page: Page, monkeypatch) -> None:
    seen: list[tuple[bytes, bytes]] = []
    compare = guard.secrets.compare_digest
    monkeypatch.setattr(guard.secrets, "compare_digest", lambda *pair: seen.append(pair) or compare(*pair))
    # from another page or a file: who has the token may come from anywhere
    answer = as_stranger(page, "GET", "/", params={"token": page.key.token}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200  # no redirect, for which a browser would keep a strict cookie back
    cookie = [part.strip() for part in answer.headers["set-cookie"].split(";")]
    assert cookie[0] == f"{page.key.cookie}={page.key.value}"
    assert set(cookie[1:]) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert page.key.token not in answer.text + answer.headers["set-cookie"]
    assert answer.headers["cache-control"] == "no-store"
    assert 'content="0;url=/"' in answer.text
    assert page.client.get("/").status_code == 200
    assert seen == [(page.key.token.encode(),) * 2, (page.key.value.encode(),) * 2]  # in constant time


def test_two_servers_have_two_keys() -> None:
    one, other = guard.Key.of_port(1), guard.Key.of_port(2)
    assert len({one.token, one.value, other.token, other.value}) == 4
    assert len(one.token) >= 43
    assert one.cookie != other.cookie  # a browser sends those of one port to all


def test_no_websocket_is_opened(page: Page) -> None:
    from starlette.websockets import WebSocketDisconnect

    for path in ("/gradio_api/queue/join", "/"):
        with pytest.raises(WebSocketDisconnect), page.client.websocket_connect(path):
            pass


@pytest.mark.parametrize("path", ["/", "/picture?run=old&file=images/0000-frog.png", "/report?run=old", "/config"])
def test_no_other_page_shows_or_reads_it(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for headers in (
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://elsewhere.example"},
        {"Origin": "http://127.0.0.1:9"}, {"Origin": "null"}, {"Host": "elsewhere.example"},
    ):  # fmt: skip
        assert page.client.get(path, headers=headers).status_code == 403
    assert page.client.get(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_browser_is_started_with_no_token_to_be_read(tmp_path: Path) -> None:
    started = _way_in(tmp_path, "http://127.0.0.1:1/?token=secret")
    file = Path(started.removeprefix("file://"))
    assert "secret" not in started
    assert "url=http://127.0.0.1:1/?token=secret" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


# ---- files ---------------------------------------------------------------------------------------------------------


def foreign(page: Page, folder: Path) -> dict[str, str]:
    """What is no upload, by what it is."""
    secret = folder / "secret.png"
    secret.write_bytes(to_png(torch.rand(3, 5, 7)))
    inside = page.uploads / f"of-{folder.name}"
    inside.mkdir()
    os.mkfifo(inside / "pipe.png")
    (inside / "link.png").symlink_to(secret)
    (inside / "folder.png").mkdir()
    return {
        "another file": str(secret),
        "a pipe": str(inside / "pipe.png"),
        "a link out": str(inside / "link.png"),
        "a folder": str(inside / "folder.png"),
        "a way out": f"{inside}/../../../{secret}",
        "a device": "/dev/zero",
        "a picture of a run": str(page.uploads.parent / "runs" / "old" / "images" / "0000-frog.png"),
        "an address": "http://127.0.0.1:9/a.png",
        "nothing": "",
    }


def test_only_an_upload_is_taken_or_given(page: Page, tmp_path: Path) -> None:
    event, walk = page.event("photo-file", "upload"), page.event("walk-file", "upload")
    files = foreign(page, tmp_path)
    before = sorted(page.uploads.rglob("*"))
    for what, path in files.items():
        for body in (
            page.form(event, [page.file(path)]),
            page.form(walk, [page.file(path)]),
            page.form(event, [[{"deep": page.file(path)}]]),
            page.form(event, [{"path": path}]),
        ):
            for where in ("queue/join", "run/predict", "queue/data"):
                assert page.client.post(f"/gradio_api/{where}", json=body).status_code == 403, what
        for form in ("=", "/"):
            assert page.client.get(f"/gradio_api/file{form}{path}").status_code in (403, 404), what
    assert sorted(page.uploads.rglob("*")) == before
    picture = to_png(torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)))
    own = page.upload("own.png", picture)
    told = page.do(event, [own])  # and the server still works
    assert told["success"]
    assert "bw-painter" in told["output"]["data"][1]
    assert page.client.get(f"/gradio_api/file={own['path']}").content == picture


def test_what_is_read_here_is_what_gradio_reads(page: Page, tmp_path: Path) -> None:
    """A body that two readers would understand in two ways is written anew."""
    event = page.event("photo-file", "upload")
    secret = tmp_path / "secret.png"
    secret.write_bytes(to_png(torch.rand(3, 5, 7)))
    own = page.upload("own.png", to_png(torch.rand(3, 5, 7)))

    def twice(*paths: object) -> str:
        named = ", ".join(f'"path": "{path}"' for path in paths)
        file = f'{{{named}, "meta": {{"_type": "gradio.FileData"}}}}'
        return f'{{"fn_index": {event["id"]}, "session_hash": "twice", "event_data": null, "data": [{file}]}}'

    body = twice(secret, own["path"])
    assert page.client.post("/gradio_api/queue/join", content=body).status_code in (200, 422)
    assert page.client.post("/gradio_api/queue/join", content=twice(own["path"], secret)).status_code == 403
    for content in (b"\xff\xfe{", b"[" * 100_000, b"--x\r\n\r\n"):
        assert page.client.post("/gradio_api/queue/join", content=content).status_code == 400


def test_nothing_is_fetched_from_elsewhere(page: Page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        to = f"127.0.0.1:{listening.getsockname()[1]}/x"
        for path in (
            f"file=http://{to}", f"file/http://{to}", f"file=HTTP://{to}", f"file/hTTps://{to}", f"file=//{to}",
            f"file%3Dhttp://{to}", f"file/http:%2F%2F{to}", f"file=file://{to}", f"proxy=http://{to}",
            f"proxy%3Dhttp://{to}", f"proxy/http://{to}", f"custom_component/{to}", f"stream/{to}",
        ):  # fmt: skip
            assert page.client.get(f"/gradio_api/{path}").status_code in (403, 404), path
            assert page.client.head(f"/gradio_api/{path}").status_code in (403, 404), path
        event = page.event("photo-file", "upload")
        sent = {**page.file(f"http://{to}"), "url": f"http://{to}"}
        assert page.client.post("/gradio_api/queue/join", json=page.form(event, [sent])).status_code == 403
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.mark.parametrize("path", ["login", "gradio_api/runs", "monitoring", "gradio_api/vibe-edit/", "svelte/x", "x"])
def test_what_the_page_does_not_use_is_not_there(page: Page, path: str) -> None:
    assert page.client.get(f"/{path}").status_code == 404
    assert page.client.post(f"/{path}", json={}).status_code == 404


def test_no_body_is_longer_than_its_route_needs(page: Page) -> None:
    def sent(size: int) -> Iterator[bytes]:
        for _ in range(size // 1_000_000 + 1):
            yield b" " * 1_000_000

    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/reset", "/picture", "/"):
        assert page.client.post(path, content=b" " * (guard.BODY_AT_MOST + 1)).status_code == 413
        assert page.client.post(path, content=sent(guard.BODY_AT_MOST)).status_code == 413  # its length is not stated
    large = b"\0" * (guard.UPLOAD_AT_MOST + guard.MULTIPART)
    assert page.client.post(guard.UPLOAD, files={"files": ("a.png", large)}).status_code == 413
    several = [("files", (f"{n}.png", large[: len(large) // 2])) for n in range(3)]
    assert page.client.post(guard.UPLOAD, files=several).status_code == 413


def test_photos_of_many_pages_are_not_all_kept(page: Page) -> None:
    event = page.event("photo-file", "upload")
    own = page.upload("own.png", to_png(torch.rand(3, 5, 7)))
    for number in range(SESSIONS_AT_MOST + 5):
        assert page.do(event, [own], f"page-{number}")["success"]
    (mounted,) = (route.app for route in page.client.app.app.routes if hasattr(route.app, "state_holder"))
    assert len(mounted.state_holder.session_data) <= SESSIONS_AT_MOST


# ---- code ----------------------------------------------------------------------------------------------------------


def said(told: dict[str, Any]) -> str:
    return " ".join(str(part) for part in told["output"]["data"])


def test_a_python_file_runs_only_where_it_was_allowed(page: Page, mine: Path) -> None:
    code = f"{mine}:build"
    draw, photo = page.event("generate-start"), page.event("photo-start")
    walk, known = page.event("walk-start"), page.event("generate-model", "input")
    picture = page.upload("own.png", to_png(torch.rand(3, 5, 7)))
    page.do(page.event("photo-file", "upload"), [picture])
    page.do(page.event("walk-file", "upload"), [picture])
    lines = [f"terms.x.kind={code}", f"views.kinds={code}", f"canvas.kind={code}", f"judge={code}", f"judge=a,{code}"]
    asked = [
        (known, [code, ""]),
        (draw, page.values(draw, Model=code)),
        (photo, page.values(photo, Model=code)),
        (walk, page.values(walk, Flow=code)),
        *((draw, page.values(draw, Other_settings=line)) for line in lines),
        *((photo, page.values(photo, Other_settings=line)) for line in lines),
        (draw, page.values(draw, Model=f"{mine.parent}/../{mine.parent.name}/mine.py:build")),
    ]
    before = len(page.jobs.all)
    for event, values in asked:
        words = said(page.do(event, values))
        assert "names Python code that was not allowed at the start" in words or "no setting" in words, values
        assert "alert" in words
    assert len(page.jobs.all) == before
    assert not mine.with_suffix(".ran").exists()


@pytest.mark.parametrize("where", ["model", "terms", "recipe", "photo"])
def test_a_run_folder_runs_no_code_and_is_named(page: Page, mine: Path, where: str) -> None:
    code, bundled = f"{mine}:build", "bundled:cifar10-resnet"
    settings: dict[str, Any] = {"recipe": "das", "n": 1, "seed": 0, "ascent": {"steps": 1}}
    if where == "terms":
        settings["terms"] = {"x": {"kind": code, "weight": 1}}
    if where == "recipe":
        (mine.parent / "own.toml").write_text(f'task = "generate"\n[terms.x]\nkind = "{code}"\n')
        settings["recipe"] = str(mine.parent / "own.toml")
    task = "edit" if where == "photo" else "generate"
    model = {"address": code if where in ("model", "photo") else bundled}
    name = f"evil-{where}"
    told = {"task": task, "settings": settings, "model": model, "drawn": {"prompts": ["my.py:prompt"]}}
    RunFolder.create(page.uploads.parent / "runs" / name, told).write_status("complete")
    words = said(page.choose_run(name))
    assert "names Python code that was not allowed at the start" in words
    assert f"--allow {code}" in words
    assert ("own.toml" if where == "recipe" else f"{name}/recipe.toml") in words
    assert page.client.get("/report", params={"run": name}).status_code == 200
    assert not mine.with_suffix(".ran").exists()


@pytest.mark.parametrize("card", ["flow.json", "classifier.json"])
def test_a_flow_of_another_runs_no_code_and_is_named(page: Page, mine: Path, card: str) -> None:
    folder = page.uploads.parent / "runs" / f"flow-of-{mine.parent.name}"
    folder.mkdir()
    code = f"{mine}:build"
    (folder / card).write_text(json.dumps({"flow": {"address": code}, "path": code}))
    walk = page.event("walk-start")
    page.do(page.event("walk-file", "upload"), [page.upload("own.png", to_png(torch.rand(3, 5, 7)))])
    words = said(page.do(walk, page.values(walk, Flow=str(folder))))
    assert f"{folder / card} names Python code that was not allowed at the start" in words
    words = said(page.do(page.event("generate-model", "input"), [str(folder), ""]))
    assert "names Python code" in words
    assert not mine.with_suffix(".ran").exists()


def test_what_was_allowed_runs_and_its_fault_is_a_sentence(tmp_path: Path, mine: Path) -> None:
    with opened(tmp_path, [f"{mine}:build"]) as page:
        words = said(page.do(page.event("generate-model", "input"), [f"{mine}:build", ""]))
        assert "it ran" in words
        assert mine.with_suffix(".ran").exists()
        draw = page.event("generate-start")
        page.do(draw, page.values(draw, Model=f"{mine}:build"))
        (job,) = page.jobs.all
        assert wait(lambda: not job.active)
        assert (job.state, "it ran" in job.message) == ("failed", True)
        words = said(page.do(draw, page.values(draw, Model=f"{mine}:other")))
        assert "not allowed" in words


def test_a_pipe_among_the_pictures_of_a_run_stops_nothing(page: Page) -> None:
    folder = page.uploads.parent / "runs" / "piped"
    RunFolder.create(folder, {"task": "generate", "settings": {"recipe": "das", "seed": 0}}).write_status("complete")
    os.mkfifo(folder / "images" / "pipe.png")
    (folder / "photos").mkdir()
    os.mkfifo(folder / "photos" / "photo-0000.png")
    for path in ("/picture?run=piped&file=images/pipe.png", "/report?run=piped"):
        assert page.client.get(path).status_code == 404
    words = said(page.choose_run("piped"))
    assert "no plain file" in words
    for pipe in (folder / "images" / "pipe.png", folder / "photos" / "photo-0000.png"):
        pipe.unlink()
    os.mkfifo(folder.parent / "pipe.toml")
    (folder / "recipe.toml").unlink()
    os.mkfifo(folder / "recipe.toml")
    assert page.client.get("/report?run=piped").status_code == 404


@pytest.mark.slow
def test_the_command_serves_who_has_its_address_and_ends(tmp_path: Path, mine: Path) -> None:
    command = [sys.executable, "-m", "bothways.cli", "studio", "--runs", str(tmp_path / "runs"), "--port", "0"]
    command += ["--no-open", "--allow", f"{mine}:build"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            address = re.search(r"(http://127\.0\.0\.1:(\d+)/)\?token=([\w-]{43,})", served.stdout.readline())
            assert address
            with httpx.Client(base_url=address[1], timeout=60) as client:
                assert client.get("/config").status_code == 403
                entrance = client.get(address[0])
                assert entrance.headers["set-cookie"].startswith(f"bothways-studio-{address[2]}=")
                assert client.get("/config").json()["title"] == "bothways studio"
                assert address[3] not in client.get("/").text
        finally:
            served.send_signal(signal.SIGINT)
            assert served.wait(60) == 0


@pytest.mark.parametrize("address", ["my.py", "nothing.py:build", "bundled:cifar10-resnet"])
def test_what_is_allowed_is_a_file_that_is_there(capsys, tmp_path: Path, address: str) -> None:
    words = refused(capsys, "studio", "--no-open", "--runs", tmp_path, "--allow", address)
    assert f"--allow {address}: " in words
    assert "type PATH.py:NAME" in words
