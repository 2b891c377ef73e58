"""Every long command killed, and its disk broken, at points spread over its whole life; then gone on with and compared.

    PYTHONPATH=tests python benchmarks/torture/kills.py [--n 50] [--what kill full ...] [COMMAND ...]

kill            SIGKILL at one of the run's own writes, renames, removals, folders and steps; a write leaves half of it
full            from that point on no room is left, so that half of a write is there
input-output    one write, rename or removal fails
read-only       from that point on nothing can be written
slow, clock     every write takes long; the clock jumps a third of a year back and forth at every point
two             two processes are told to write one folder at one time
small-disk      a disk of its own that holds a share of what the run needs (tmpfs, for root alone)
read-only-disk  a disk that nothing can be written to (the same)

After each, a file under its own name must be whole, the error one line, and once the run went on, all that it wrote the
same as without: bytes, and of JSON all but times. Each command is a fork of a process that has everything imported. The
figures go to benchmarks/results/torture.jsonl and docs/reliability.md; the exit code is 1 where anything is broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command sets it, before torch is imported

import torch

from golden_cases import Made
from killed import COMMANDS, FILES, KINDS, Command, command_of, may_mount, spread
from reliability import record

AT_POINTS = ("kill", "full", "input-output", "read-only")
WHOLE_LIFE = ("slow", "clock")
OF_DISKS = ("small-disk", "read-only-disk")
WHATS = (*AT_POINTS, *WHOLE_LIFE, "two", *OF_DISKS)
TWO, SMALL = 5, 10  # times


def trials(command: Command, what: str, number: int) -> Iterator[tuple[str, list[str]]]:
    """(where, what is wrong) of each trial."""
    if what in AT_POINTS:
        for at in spread(command.points, number):
            yield f"point {at} of {command.points}", list(command.faults(what, at))
    elif what in WHOLE_LIFE:
        yield "throughout", list(command.faults(what, 0))
    elif command.name in KINDS:  # of several processes already
        return
    elif what == "two" and command.name not in FILES and not command.overwrites:
        for _ in range(min(TWO, number)):
            yield "beside another", list(command.faults_of_two())
    elif what == "small-disk" and not command.file and not command.overwrites:
        for k in range(min(SMALL, number)):
            yield f"{k} of {SMALL} of the room", list(command.faults_of_small_disk(k / SMALL))
    elif what == "read-only-disk":
        yield "at the start", list(command.faults_of_read_only_place())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"{', '.join(COMMANDS)} (default: all)")
    parser.add_argument("--n", type=int, default=50, help="points of a command (default 50)")
    parser.add_argument("--what", nargs="+", choices=WHATS, default=WHATS, help="what happens (default: all)")
    given = parser.parse_args()
    if unknown := set(given.commands) - set(COMMANDS):
        parser.error(f"no command {', '.join(sorted(unknown))}; there are {', '.join(COMMANDS)}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    kinds = [what for what in given.what if what not in OF_DISKS or may_mount()]
    if left := [what for what in given.what if what not in kinds]:
        print(f"no disk can be mounted here, so {', '.join(left)} are left out")
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        made = Made(Path(place))
        for name in given.commands or COMMANDS:
            command = command_of(name, made)
            for what in kinds:
                tried, broken = 0, 0
                for where, wrong in trials(command, what, given.n):
                    tried += 1
                    broken += bool(wrong)
                    for line in wrong:
                        print(f"  {name}, {what}, {where}: {line}", flush=True)
                if tried:
                    print(f"{name}: {what}: {tried} of {command.points:,} points, {broken} broken", flush=True)
                    facts = {"points": command.points, "tried": tried, "broken": broken}
                    record([{"part": "crash", "kind": what, "name": name, **facts}])
                bad += broken
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
