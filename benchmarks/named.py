"""What can a viewer name, who sees each class once and has no list?  Shuffled sheets of drawings, and the counts.

    python benchmarks/named.py sheets --first 12 --seed 5 [--out runs/named]     three sheets of 20 numbered pictures
    python benchmarks/named.py unlabelled --first 100 --seed 5 --drawn runs/unlabelled     two sheets of 20
    python benchmarks/named.py table

The pictures are those of imagenet.py, seed 0 or ``--picture-seed``, 192 calls. A sheet holds 20 classes once each,
drawn by one of three tools; the three sheets together hold each class by each tool. The key stands beside a sheet.
Answers, a first and a second guess of each picture, are lines of results/named.jsonl; ``named`` is 1 or 2 for the guess
that is the class by one of its ImageNet names or a plain synonym, 0 for none (a kind, such as "snake" for rock python,
is none). Answers of a later study than the first name it. ``photographs-before`` is the recipe before 2026-11-30, as in
imagenet.py. The file also has the answers for twenty pictures each of rows of unlabelled.py, with ``kind`` for the
class or its kind; sheets "choice ..." are of seeds 1012 to 1031, on which settings were chosen. Sheets unlabelled-10-0
and -1 are ``unlabelled --first 10 --seed 77`` of pictures drawn on a GPU.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

from bothways.numerics.intervals import seeds_told, wilson_interval

RESULTS = Path(__file__).resolve().parent / "results" / "named.jsonl"
TOOLS = ("photographs", "lucent", "horama-fourier")
BEFORE, CONTROL = "photographs-before", "statistics-tv"
FIRST = "2026-11"  # the study whose answers do not name it
SIDE, LINE, GAP, COLUMNS = 224, 16, 6, 5


def sheets(first: int, draws: random.Random, seed: int, drawn: Path, out: Path) -> None:
    """Three sheets, which together hold each class by each tool."""
    classes = [first + 50 * k for k in range(20)]
    draws.shuffle(classes)
    for turn in range(len(TOOLS)):
        tiles = [(label, TOOLS[(place + turn) % len(TOOLS)]) for place, label in enumerate(classes)]
        draws.shuffle(tiles)
        numbered([drawn / f"{tool}-192-{seed}-{label}.png" for label, tool in tiles], out / f"{first}-{turn}.png")
        (out / f"key-{first}-{turn}.json").write_text(json.dumps(tiles))


def unlabelled(first: int, draws: random.Random, drawn: Path, out: Path) -> None:
    """Two sheets of twenty: of 20 pictures of the density and 20 of the control, from a number on, mixed."""
    tiles = [("density", first + k) for k in range(20)] + [(CONTROL, first + k) for k in range(20)]
    draws.shuffle(tiles)
    for turn, part in enumerate((tiles[:20], tiles[20:])):
        numbered([drawn / f"{row}-{k:03}.png" for row, k in part], out / f"unlabelled-{first}-{turn}.png")
        (out / f"key-unlabelled-{first}-{turn}.json").write_text(json.dumps(part))


def numbered(files: list[Path], out: Path) -> None:
    """A sheet of the pictures with their numbers."""
    whole = Image.new("RGB", (COLUMNS * (SIDE + GAP), len(files) // COLUMNS * (SIDE + GAP + LINE)), "white")
    pen = ImageDraw.Draw(whole)
    for place, file in enumerate(files):
        left, top = place % COLUMNS * (SIDE + GAP), place // COLUMNS * (SIDE + GAP + LINE)
        picture = Image.open(file).convert("RGB")
        whole.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top + LINE))
        pen.text((left + 4, top + 2), str(place + 1), "black")
    whole.save(out)


def table() -> str:
    lines = [json.loads(text) for text in RESULTS.read_text().splitlines()]
    rows = ["| study | tool | pictures | named by the first guess | by either |", "|---|---|---|---|---|"]
    tools = {(line.get("study", FIRST), line["row"]) for line in lines if line["row"] in (*TOOLS, BEFORE)}
    for study, tool in sorted(tools):
        found = [line["named"] for line in lines if (line.get("study", FIRST), line["row"]) == (study, tool)]
        counts = [sum(named == 1 for named in found), sum(named > 0 for named in found)]
        cells = [
            f"{count} ({low:.2f}–{high:.2f})" for count in counts for low, high in [wilson_interval(count, len(found))]
        ]
        rows.append(f"| {study} | {tool} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join([f"*{seeds_told([1])}*", "", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["sheets", "unlabelled", "table"])
    parser.add_argument("--first", type=int, default=12, help="of 20 classes, every fiftieth: 12 or 37; or of pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--picture-seed", type=int, default=0)
    parser.add_argument("--drawn", type=Path, default=Path("runs/imagenet"), help="folder of the pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/named"))
    options = parser.parse_args()
    if options.part == "table":
        print(table())
        return
    options.out.mkdir(parents=True, exist_ok=True)
    draws = random.Random(options.seed)
    if options.part == "sheets":
        sheets(options.first, draws, options.picture_seed, options.drawn, options.out)
    else:
        unlabelled(options.first, draws, options.drawn, options.out)


if __name__ == "__main__":
    main()
