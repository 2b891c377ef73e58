"""Does a small CLIP rank the prompted word first in what it drew, over all 45 words that it was trained with?

    python benchmarks/fashion.py [--recipe das] [--n 1] [--out runs/fashion]

A picture of every word by ``examples/fashion_clip.py:build``, and the rank of the word by the cosine to all words: in
the picture as it is, and in what gave no gradient: mirrored, turned by 10 degrees, at .8 of its size on white, after a
5x5 mean, and with the words in a sentence. All are the eyes of the network that drew; no other network of its kind is
at hand. Beside each stand two controls: noise in place of the pictures, and every word beside the picture of the next.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import bothways
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import wilson_interval
from bothways.runs import to_png

FILE = str(Path(__file__).resolve().parents[1] / "examples" / "fashion_clip.py")
SENTENCE = "a photo of {}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="das")
    parser.add_argument("--n", type=int, default=1, help="pictures of each word")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"), help="an interrupted one is gone on with")
    parser.add_argument("--set", nargs="*", default=[], help="NAME=VALUE of the recipe")
    options = parser.parse_args()
    model, words = (bothways.load_model(f"{FILE}:{name}") for name in ("build", "words"))
    words = words.spec.classes
    changes = dict(pair.split("=") for pair in options.set)
    drawn = []
    for word in words:
        place = options.out / options.recipe / word.replace(" ", "-")
        how = {"recipe": options.recipe, "n": options.n, "seed": options.seed, "judges": [], **changes}
        run = bothways.generate(model, prompts=[word], out=place, resume=place.exists(), **how)
        drawn.append(run.images)
        print(word, round(run.measures["cost"]["seconds_per_picture"], 1), flush=True)
    pictures = torch.stack(drawn)  # (words, n, 3, 80, 80)
    (options.out / f"{options.recipe}.png").write_bytes(to_png(sheet(pictures[:, 0])))
    noise = Draws(range(len(words) * options.n)).uniform((3, 80, 80)).view(pictures.shape)
    rows = {"pictures": pictures, "noise": noise, "of the next word": pictures.roll(-1, 0)}
    found = {name: ranked(model, words, part) for name, part in rows.items()}
    print(json.dumps(found, indent=1))
    (options.out / f"{options.recipe}.json").write_text(json.dumps(found, indent=1))


@torch.no_grad()
def ranked(model, words, pictures: Tensor) -> dict:
    """{view: first, among five and median rank of the word of each row, by the cosine to all words}."""
    plain, sentences = model.text(list(words)), model.text([SENTENCE.format(word) for word in words])
    of = torch.arange(len(words)).repeat_interleave(pictures.shape[1])
    flat, found = pictures.flatten(0, 1), {}
    views = {**{name: (view(flat), plain) for name, view in VIEWS.items()}, SENTENCE: (flat, sentences)}
    for name, (seen, rows) in views.items():
        cosines = F.normalize(model.outputs(seen), dim=1) @ rows.T
        rank = 1 + (cosines > cosines.gather(1, of[:, None])).sum(1)
        first, five = int((rank == 1).sum()), int((rank <= 5).sum())
        found[name] = {
            "first": first, "interval": wilson_interval(first, len(rank)), "five": five,
            "five_interval": wilson_interval(five, len(rank)), "median_rank": rank.median().item(), "of": len(rank),
            "words_first": [words[k] for k in of[rank == 1].tolist()],
        }  # fmt: skip
    return found


def turned(pictures: Tensor, degrees: float = 10.0, size: float = 1.0) -> Tensor:
    """Turned about the middle, at a share of the size, white outside."""
    angle = torch.tensor(degrees).deg2rad()
    way = torch.tensor([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]]) / size
    grid = F.affine_grid(way.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return 1 + F.grid_sample(pictures - 1, grid, align_corners=False)


def mean_of_five(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="reflect"), 5, 1)


VIEWS = {
    "as it is (gave the gradient)": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures.flip(-1),
    "turned by 10 degrees": turned,
    "at .8 of its size": lambda pictures: turned(pictures, 0.0, 0.8),
    "after a 5x5 mean": mean_of_five,
}


def sheet(pictures: Tensor, columns: int = 9) -> Tensor:
    rows = [torch.cat(list(part), 2) for part in pictures.split(columns)]
    return torch.cat(rows, 1)


if __name__ == "__main__":
    main()
