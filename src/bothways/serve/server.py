"""The server of the service: it loads the models, listens, and ends what is open before it ends itself."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from bothways import registry
from bothways.reading import read_bytes
from bothways.serve.metrics import missing
from bothways.types import UserError

SHORTEST_TOKEN = 16  # letters
GRACE = 30.0  # seconds in which what is open is answered when the service ends
MADE_BY = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > token.txt"


def is_local(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_of(file: Path | None, host: str) -> str:
    """The token in a file, or "" where none is needed. Raises UserError for one that is missing, short or not plain."""
    if file is None:
        if not is_local(host):
            raise UserError(
                f"on {host} others reach it, so it needs a token; type --token token.txt, made by {MADE_BY}"
            )
        return ""
    token = read_bytes(file, 10_000).decode("utf-8", "replace").strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(
            f"{file} holds no token: it is one line of {SHORTEST_TOKEN} letters or more, without a space; "
            f"make one by {MADE_BY}"
        )
    return token


def serve(
    addresses: Sequence[str], *, host: str, port: int, token: Path | None, on_start: Callable[[str], None],
    runs: Path | None = None, minutes: float = 10.0, batch: int = 32, within: float = 60.0, device: str = "cpu",
    dtype: str = "float32", allow: Sequence[str] = (),
) -> None:  # fmt: skip
    """Serve models until interrupted. on_start: called with the address when the models are loaded.

    token: a file. runs: where drawings are kept; None for a folder that goes with the service. minutes: the most that a
    drawing may take. allow: Python files named by a run or card that may be run. Raises UserError if it cannot start.
    """
    if (name := missing()) is not None:
        raise UserError(f'bothways serve needs {name}, which is not installed; type pip install "bothways[serve]"')
    from bothways.serve.app import Service, build_app
    from bothways.serve.drawings import Drawings
    from bothways.serve.models import all_served
    from bothways.studio.wire.listening import bound, run

    secret = token_of(token, host)
    code = [address for address in addresses if registry.is_address(address)]
    registry.allow_only([*code, *allow], "the same with --allow-code {file}")
    with ExitStack() as open_until, suppress(KeyboardInterrupt):  # an interrupt is how it ends
        door = open_until.enter_context(bound(host, port, other=8001))
        models = all_served(addresses, device, dtype)
        kept = runs or Path(open_until.enter_context(tempfile.TemporaryDirectory(prefix="bothways-serve-")))
        drawings = None
        if any(one.model is not None for one in models.values()):
            drawings = Drawings(kept, minutes, owned=runs is None)
        service = Service(models, drawings, batch=batch, within=within, device=device, dtype=dtype)
        app = build_app(service, secret, local=is_local(host))
        door.listen(1024)  # who comes before the server is up waits, and is not refused
        name = f"[{host}]" if ":" in host else host
        on_start(f"http://{name}:{door.getsockname()[1]}")
        run(app, door, GRACE)
