"""Every task, run tiny, writes what it wrote when that was recorded: a change of the house changes no number.

    python tests/test_golden.py --record        (or BOTHWAYS_RECORD=1 pytest tests/test_golden.py)

writes what this machine makes now into tests/golden/recorded.json. Do that after a change that was meant to change
numbers, and look at which cases differ in the file, a line each; with ``-k NAME`` only some cases are made again.

Two things are held. The form of what is written (files, sizes of pictures, names and shapes of tensors, keys of
measures, means within a tolerance) is compared on every machine. The bits are compared where they were recorded, since
the last digit of a float depends on the processor: on a machine of another kind that comparison is skipped. What a
recording changes is forgotten of the other machines, and so is what this one had no bits of, since it may have changed.
To add this machine beside the others after no change, record with BOTHWAYS_RECORD=machine.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from golden_cases import CASES, Made, libraries
from golden_values import Value, bits, differing_bits, differing_forms, fingerprint, forms, of_folder, of_tensors

RECORDED = Path(__file__).parent / "golden" / "recorded.json"
RECORD = "BOTHWAYS_RECORD"
RECORDING = os.environ.get(RECORD, "") not in ("", "0")

pytestmark = pytest.mark.filterwarnings("default")  # as a shell has it: what a command notes is no error


class Recorded:
    """{"forms": {case: {file: [form, mean, ...]}}, "bits": {machine: {case: digests}}}, and the values of this run."""

    def __init__(self, made: Made) -> None:
        self.made, self.values, self.machine = made, dict[str, dict[str, Value]](), fingerprint()
        found = json.loads(RECORDED.read_text("utf-8")) if RECORDED.is_file() else {}
        self.forms: dict[str, dict[str, list[Any]]] = found.get("forms", {})
        self.bits: dict[str, dict[str, str]] = found.get("bits", {})

    def now(self, case: str) -> dict[str, Value]:
        """What the case writes now; made once."""
        missing = [library for library in sorted(libraries(case)) if importlib.util.find_spec(library) is None]
        if missing:
            pytest.skip(f"{case} needs {', '.join(missing)}, which is not installed")
        if case not in self.values:
            folder = self.made.folder(case)
            self.values[case] = of_folder(folder)
            if case in self.made.tensors:
                self.values[case] = {"returned": of_tensors(self.made.tensors[case])}
        return self.values[case]

    def record(self, case: str, values: dict[str, Value]) -> None:
        own, new = self.bits.setdefault(self.machine, {}), bits(values)
        if own.get(case) != new and os.environ[RECORD] != "machine":
            for others in self.bits.values():
                others.pop(case, None)
        own[case], self.forms[case] = new, forms(values)

    def write(self) -> None:
        """A case a line, in the order of the cases; those that are gone are dropped."""

        def lines(table: dict[str, Any]) -> str:
            kept = [f"   {json.dumps(case)}: {json.dumps(table[case])}" for case in CASES if case in table]
            return "{\n" + ",\n".join(kept) + "\n  }"

        machines = [f"  {json.dumps(name)}: {lines(table)}" for name, table in sorted(self.bits.items())]
        RECORDED.parent.mkdir(exist_ok=True)
        text = ",\n".join(machines)
        RECORDED.write_text(f'{{\n "forms": {lines(self.forms)},\n "bits": {{\n{text}\n }}\n}}\n', "utf-8")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    found = Recorded(Made(tmp_path_factory.mktemp("golden")))
    yield found
    if RECORDING:
        found.write()


@pytest.mark.parametrize("case", CASES)
def test_the_form_of_what_is_written_is_the_same_everywhere(case: str, recorded: Recorded) -> None:
    values = recorded.now(case)
    if RECORDING:
        recorded.record(case, values)
    assert case in recorded.forms, f"{case} was never recorded: python tests/test_golden.py --record -k {case}"
    differing = differing_forms(values, recorded.forms[case])
    assert not differing, f"{case}: {'; '.join(differing)}"


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_the_same_to_the_bit(case: str, recorded: Recorded) -> None:
    values, known = recorded.now(case), recorded.bits.get(recorded.machine, {})
    if RECORDING:
        recorded.record(case, values)
    elif case not in known:
        pytest.skip(f"nothing was recorded on a machine like this one ({recorded.machine})")
    else:
        differing = differing_bits(values, known[case])
        assert not differing, f"{case} differs from what was recorded in {', '.join(differing)}"


if __name__ == "__main__":
    asked = [argument for argument in sys.argv[1:] if argument != "--record"]
    if len(asked) < len(sys.argv) - 1:
        os.environ[RECORD] = "1"
    sys.exit(pytest.main([__file__, *asked]))
