"""Memory and pictures a second of reading pictures for a training: held in memory, decoded as needed, and streamed.

    python benchmarks/data.py --data path/to/tiny-imagenet [--pictures 20000] [--batch 100]

Each way reads every picture once, in the shuffled batches of a training, in a process of its own and without workers:

    floor       the bytes of the pictures are in memory already, and each is decoded in turn, by the same decoder
    memory      ``load_images``, then the batches of one epoch
    on demand   the same batches, each picture decoded as its turn comes (rows unpacked beforehand: ``unpacking`` s)
    stream      the batches of ``stream:``, groups of rows read as they are needed

A line of benchmarks/results/data.jsonl each: CPU seconds by part, pictures a second of CPU time, the share of the
floor, and how much the process grew in memory (resident, at its highest, beyond what it had after its imports).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("floor", "memory", "on demand", "stream")
RESULTS = Path(__file__).parent / "results" / "data.jsonl"


def subset(data: str, pictures: int, folder: Path) -> Path:
    """A folder with the first pictures of the training file, in groups of 1,000 rows as in the file."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(Path(data) / "train.parquet")
    table = file.read().slice(0, pictures)
    pyarrow.parquet.write_table(table, folder / "train.parquet", row_group_size=1000)
    return folder


def grown() -> float:
    """The highest resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(way: str, data: str, batch: int) -> dict[str, Any]:
    """What one way takes. The batches are without augmentation."""
    from bothways import load_images
    from bothways.data.images import Augmentation, batches
    from bothways.data.readers.decoding import decode_image
    from bothways.data.rows.stored import open_images
    from bothways.data.sources import find_images

    decode_image(next(find_images(data).entries)[1])
    before, began = grown(), time.process_time()
    if way == "floor":
        held = [content for _, content, _ in find_images(data).entries]
        ready = time.process_time()
        for content in held:
            decode_image(content)
        count = len(held)
    else:
        address = f"stream:{data}" if way == "stream" else data
        found = load_images(address) if way == "memory" else open_images(address, in_memory=0)
        ready, count = time.process_time(), len(found) // batch * batch
        step = batches(found, batch, 0, Augmentation(crop=0, flip=False))
        for k in range(len(found) // batch):
            step(k)
    ended = time.process_time()
    whole = ended - began if way != "floor" else ended - ready
    return {
        "way": way, "pictures": count, "opening_s": round(ready - began, 2), "epoch_s": round(ended - ready, 2),
        "pictures_a_second": round(count / whole), "grown_mb": round(grown() - before, 1),
    }  # fmt: skip


def unpacking(data: str) -> float:
    """CPU seconds in which the rows are unpacked into the cache."""
    from bothways.data.rows.stored import open_images

    began = time.process_time()
    open_images(data, in_memory=0)
    return round(time.process_time() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--way", choices=(*WAYS, "unpacking"))
    asked = parser.parse_args()
    if asked.way:
        made = unpacking(asked.data) if asked.way == "unpacking" else measured(asked.way, asked.data, asked.batch)
        print(json.dumps(made))
        return

    with tempfile.TemporaryDirectory() as place:
        data = subset(asked.data, asked.pictures, Path(place))
        own = {**os.environ, "XDG_CACHE_HOME": f"{place}/cache"}

        def run(way: str) -> Any:
            command = [sys.executable, __file__, "--data", str(data), "--batch", str(asked.batch), "--way", way]
            return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=own).stdout)

        once = run("unpacking")
        lines = [run(way) for way in WAYS]
    floor = lines[0]["pictures_a_second"]
    for line in lines:
        line["of_floor"] = round(line["pictures_a_second"] / floor, 3)
        line |= {"unpacking_s": once} if line["way"] == "on demand" else {}
        print(json.dumps(line))
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
