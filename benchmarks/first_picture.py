"""From the first visit of the studio to the first picture on the screen, with the bundled model:

    python benchmarks/first_picture.py [ROUNDS]

Each round starts `bothways studio` anew on an empty folder, opens the page in Chromium, presses Draw with everything as
it is, and waits until a picture that is not one flat colour stands on the screen. One line of JSON: the medians of the
seconds until the server said where it is, until the page was shown, from Draw to the picture, and their sum; every
round's sum; the seconds of processor time that the server had taken by then, which other work on the machine hardly
changes (Linux only); and the load of the machine (running processes over the last minute) beside its number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

PARTS = ("server ready", "page shown", "first picture", "processor of the server")
LONG = 240_000  # milliseconds
A_PICTURE = """() => {
  const one = document.querySelector("#generate-pictures img");
  if (!one || !one.complete || !one.naturalWidth) return false;
  const [width, height] = [one.naturalWidth, one.naturalHeight];
  const ground = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  ground.drawImage(one, 0, 0);
  return new Set(new Uint32Array(ground.getImageData(0, 0, width, height).data.buffer)).size > 16;
}"""


def seconds_of_a_round() -> list[float]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as runs, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(LONG)
        moments = [time.perf_counter()]
        command = [sys.executable, "-m", "bothways.cli", "studio", "--runs", runs, "--port", "0", "--no-open"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
            try:
                assert served.stdout is not None
                address = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]+", served.stdout.readline())
                assert address, "the command did not say where the page is"
                moments.append(time.perf_counter())
                page.goto(address.group())
                page.get_by_role("button", name="Draw").wait_for()
                moments.append(time.perf_counter())
                page.get_by_role("button", name="Draw").click()
                page.wait_for_function(A_PICTURE, polling=50)
                moments.append(time.perf_counter())
                processor = processor_seconds(served.pid)
            finally:
                browser.close()
                served.send_signal(signal.SIGINT)
                served.wait()
    return [*(after - before for before, after in pairwise(moments)), processor]


def processor_seconds(process: int) -> float:
    """Of a process until now, in its own code and in the system's; NaN where there is no /proc."""
    file = Path(f"/proc/{process}/stat")
    if not file.exists():
        return float("nan")
    fields = file.read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    rounds = [seconds_of_a_round() for _ in range(parser.parse_args().rounds)]
    sums = [sum(parts[:-1]) for parts in rounds]
    found = {name: round(median(parts), 2) for name, parts in zip(PARTS, zip(*rounds, strict=True), strict=True)}
    found |= {"sum": round(median(sums), 2), "sums": [round(value, 2) for value in sums]}
    print(json.dumps(found | {"load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
