"""Does a small CLIP rank the prompted word first in what it drew, over all 45 words that it was trained with?

    python benchmarks/fashion.py [--recipe das] [--as-class] [--out runs/fashion]

A picture of every word by ``examples/fashion_clip.py:build``, or with --as-class of every class of ``:words``; and the
rank of the word by the cosine to all words: in the picture as it is, and in what gave no gradient: mirrored, turned by
10 degrees, at .8 of its size on white, after a 5x5 mean, and with the words in a sentence. All are the eyes of the
network that drew; no other network of its kind is at hand. Beside each stand two controls: noise in place of the
pictures, and every word beside the picture of the next. And what the views leave of a plain picture: six silhouettes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
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
    parser.add_argument("--as-class", action="store_true", help="by the log-probability over all words, not the cosine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"), help="an interrupted one is gone on with")
    options = parser.parse_args()
    model, classifier = (bothways.load_model(f"{FILE}:{name}") for name in ("build", "words"))
    words, place = classifier.spec.classes, options.out / f"{options.recipe}{'-class' * options.as_class}"
    how = {"n": 1, "recipe": options.recipe, "seed": options.seed, "judges": []}
    drawn = []
    for word in words:
        out = place / word.replace(" ", "-")
        given = (classifier, word) if options.as_class else (model,)
        target = {} if options.as_class else {"prompts": [word]}
        run = bothways.generate(*given, **target, **how, out=out, resume=out.exists())
        drawn.append(run.images[0])
        print(word, round(run.measures["cost"]["seconds_per_picture"], 1), flush=True)
    pictures = torch.stack(drawn)
    place.with_suffix(".png").write_bytes(to_png(sheet(pictures)))
    noise = Draws(range(len(words))).uniform((3, 80, 80))
    rows = {"pictures": pictures, "noise": noise, "of the next word": pictures.roll(-1, 0)}
    found = {name: ranked(model, words, range(len(words)), part) for name, part in rows.items()}
    labels = [words.index(word) for word in GARMENTS for _ in COLOURS]
    found["silhouettes"] = ranked(model, words, labels, silhouettes())
    print(json.dumps(found, indent=1))
    place.with_suffix(".json").write_text(json.dumps(found, indent=1))


@torch.no_grad()
def ranked(model, words, labels, pictures: Tensor) -> dict:
    """{view: first, among five and median rank of the word of each picture, by the cosine to all words}."""
    plain, sentences = model.text(list(words)), model.text([SENTENCE.format(word) for word in words])
    of, found = torch.tensor(labels), {}
    views = {**{name: (view(pictures), plain) for name, view in VIEWS.items()}, SENTENCE: (pictures, sentences)}
    for name, (seen, rows) in views.items():
        cosines = F.normalize(model.outputs(seen), dim=1) @ rows.T
        rank = 1 + (cosines > cosines.gather(1, of[:, None])).sum(1)
        first, five = int((rank == 1).sum()), int((rank <= 5).sum())
        found[name] = {
            "first": first, "interval": wilson_interval(first, len(rank)), "five": five,
            "five_interval": wilson_interval(five, len(rank)), "median_rank": rank.median().item(), "of": len(rank),
            "words_first": [words[label] for label, own in zip(labels, rank.tolist(), strict=True) if own == 1],
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


GARMENTS = {  # the left half of the outline, in shares of a page
    "topwear": [(0.3, 0.2), (0.7, 0.2), (0.98, 0.45), (0.85, 0.55), (0.75, 0.45), (0.75, 0.9)],
    "bottomwear": [(0.3, 0.06), (0.7, 0.06), (0.75, 0.95), (0.55, 0.95), (0.5, 0.3)],
}
COLOURS = ((40, 60, 160), (160, 40, 40), (30, 30, 30))


def silhouettes() -> Tensor:
    """(6,3,80,80): a shirt and trousers in three colours on a white page of 60x80, with black at the sides."""
    found = []
    for half in GARMENTS.values():
        outline = half + [(1 - x, y) for x, y in reversed(half)]
        for colour in COLOURS:
            page, whole = Image.new("RGB", (60, 80), "white"), Image.new("RGB", (80, 80))
            ImageDraw.Draw(page).polygon([(60 * x, 80 * y) for x, y in outline], fill=colour)
            whole.paste(page, (10, 0))
            found.append(torch.from_numpy(np.array(whole)).permute(2, 0, 1).float() / 255)
    return torch.stack(found)


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
