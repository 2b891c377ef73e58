"""Several processes of one run, cheaply: one process imports everything, and forks as many as a test calls for.

    with together() as call:
        ends = call(3, "tasks/test_spread.py", "draw", out="runs/x")

Each child has the variables that torchrun sets, meets the others over the loopback, and runs a function of a file of
tests. A child that runs for longer than ``SECONDS`` is ended.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parent
SECONDS = 120


class End(NamedTuple):
    """How a process ended. code: of its exit, negative for a signal. said: its line, and what it printed."""

    code: int
    said: str


@contextmanager
def together() -> Iterator[Callable[..., list[End]]]:
    """A function (processes, file, function, settings) -> the end of each process, in order."""
    here = {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "together.py")]
    with subprocess.Popen(
        command, env=os.environ | here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:

        def call(count: int, file: str, function: str, **settings: Any) -> list[End]:
            assert parent.stdin is not None
            assert parent.stdout is not None
            parent.stdin.write(json.dumps([count, str(TESTS / file), function, settings]) + "\n")
            parent.stdin.flush()
            return [End(*end) for end in json.loads(parent.stdout.readline())]

        yield call
        assert parent.stdin is not None
        parent.stdin.close()


def _serve() -> None:
    """In the parent of the processes: a line of JSON in, a line of JSON out."""
    import torch

    import bothways.report
    import bothways.tasks.evaluate.run
    import bothways.tasks.features.run
    import bothways.tasks.generate.run
    import bothways.tasks.likelihood.run
    import bothways.tasks.sample.run  # noqa: F401

    torch.set_num_threads(1)
    os.fsync = lambda handle: None
    for line in sys.stdin:
        count, file, function, settings = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [_fork(rank, count, port, file, function, settings) for rank in range(count)]
        ends = dict[int, int]()
        while len(ends) < count:  # as they end, so that none that has ended looks alive to the others
            number, status = os.wait()
            ends[number] = os.waitstatus_to_exitcode(status)
        found = []
        for number, pipe in children:
            with os.fdopen(pipe) as said:
                found.append((ends[number], said.read()))
        sys.__stdout__.write(json.dumps(found) + "\n")
        sys.__stdout__.flush()


def _fork(rank: int, count: int, port: int, file: str, function: str, settings: dict[str, Any]) -> tuple[int, int]:
    """(number of the process, the end of a pipe that holds what it says)."""
    read, write = os.pipe()
    if number := os.fork():
        os.close(write)
        return number, read
    os.close(read)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(write, 1)
    os.dup2(write, 2)
    signal.alarm(SECONDS)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    code = 0
    try:
        spec = importlib.util.spec_from_file_location("together_now", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        getattr(module, function)(**settings)
    except (ValueError, RuntimeError) as error:  # a UserError or RunError, or another one
        code = getattr(error, "exit_code", 3)
        sys.stderr.write(f"{error}\n" if code != 3 else traceback.format_exc())
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    _serve()
