"""The environments of the peers: one a group, each over the packages of this project, so that all share one torch.

    python benchmarks/peers/environments.py [--into FOLDER] [--groups torchcfm ...]

Versions are pinned here, and torch by constraints.txt, so that no other build of it comes. An environment holds only
what this project's own lacks (about 0.8 GB for all); it is made once, and again when its line here changes. How a peer
starts as its own requirements install it, and what it takes where it does not, is tried and kept in started.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INTO = Path(sys.prefix) / "peers"
PIP = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
CONSTRAINED = ["-c", ROOT / "constraints.txt"]
TORCHVISION = "a torchvision of torch's own build (here two of its operators are declared first)"


class Group(NamedTuple):
    """peers: requirement -> the module that starts it. besides: what they need, and no requirement of theirs names."""

    peers: dict[str, str]
    besides: tuple[str, ...] = ()


GROUPS: dict[str, Group] = {
    "torchcfm": Group({"torchcfm==1.0.7": "torchcfm"}),
    "torchdiffeq": Group({"torchdiffeq==0.2.5": "torchdiffeq"}),
    "flow_matching": Group({"flow_matching==1.0.10": "flow_matching.solver"}),
    "pot": Group({"POT==0.9.7.post1": "ot"}),
    "lucent": Group({"torch-lucent==0.1.8": "lucent.optvis.render"}),
    "horama": Group({"horama==0.3.0": "horama"}, ("einops==0.8.1", "matplotlib==3.10.8")),
    "timm": Group({"timm==1.0.31": "timm"}),
    "sklearn": Group({"scikit-learn==1.9.1": "sklearn"}),
    "fid": Group({"clean-fid==0.1.35": "cleanfid.fid", "torch-fidelity==0.4.0": "torch_fidelity"}),
}


def plain() -> dict[str, str]:
    """The variables of a peer's process: one thread, and the package of this working tree."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "PYTHONPATH": str(ROOT / "src"), "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}


def python_of(name: str, into: Path = INTO) -> Path:
    """The interpreter of a group's environment."""
    return into / name / "bin" / "python"


def make(name: str, into: Path = INTO) -> list[dict[str, Any]]:
    """Make the environment of a group, unless it is there as its line says -> how each of its peers starts."""
    group, folder = GROUPS[name], into / name
    said, kept = json.loads(json.dumps([name, *group, sys.prefix])), folder / "started.json"
    if kept.is_file() and (before := json.loads(kept.read_text("utf-8")))["of"] == said:
        return before["starts"]
    venv.create(folder, with_pip=True, clear=True)
    python = python_of(name, into)
    own = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    below = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (Path(own.strip()) / "project.pth").write_text(below, "utf-8")
    subprocess.run([python, *PIP, *CONSTRAINED, *group.peers], check=True)
    errors = {module: errors_of(python, module) for module in group.peers.values()}
    if group.besides:
        subprocess.run([python, *PIP, *CONSTRAINED, *group.besides], check=True)
    starts = [start_of(python, *peer, errors[peer[1]], group.besides) for peer in group.peers.items()]
    kept.write_text(json.dumps({"of": said, "starts": starts}, indent=1), "utf-8")
    return starts


def errors_of(python: Path, module: str) -> list[str]:
    """Why a module does not start: plainly, and then with the operators declared. Empty where it starts plainly."""
    plainly = error_of(python, f"import {module}")
    return [error for error in (plainly, plainly and declared_error_of(python, module)) if error]


def start_of(
    python: Path, requirement: str, module: str, errors: list[str], besides: tuple[str, ...]
) -> dict[str, Any]:
    """How a peer starts: as its requirements install it (no "error"), or with what ("with"); "never": why not."""
    name, _, version = requirement.partition("==")
    fact = {"peer": name, "version": version, "error": "; then ".join(errors), "with": "", "never": ""}
    if not errors:
        return fact
    if left := declared_error_of(python, module):
        return fact | {"never": left}
    return fact | {"with": ", and ".join([TORCHVISION, *(besides if len(errors) > 1 else ())])}


def declared_error_of(python: Path, module: str) -> str:
    declared = f"import operators; operators.declare_torchvision(); import {module}"
    return error_of(python, f"import sys; sys.path.insert(0, {str(HERE)!r}); {declared}")


def error_of(python: Path, code: str) -> str:
    """The last line of what a piece of code writes where it fails, "" where it does not."""
    command = [python, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=plain(), capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=INTO)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    options = parser.parse_args()
    for name in options.groups:
        for start in make(name, options.into.resolve()):
            print(json.dumps(start))


if __name__ == "__main__":
    main()
