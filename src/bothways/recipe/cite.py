"""BibTeX of the parts that a run used."""

from __future__ import annotations

from bothways.recipe.settings import DrawSettings


def _entry(key: str, author: str, title: str, year: int, venue: str) -> str:
    fields = {"author": author, "title": title, "year": str(year), "journal": venue}
    return f"@article{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}"


PAPERS = {
    "das": _entry(
        "fort2025direct",
        "Fort, Stanislav and Whitaker, Jonathan",
        "Direct Ascent Synthesis: Revealing Hidden Generative Capabilities in Discriminative Models",
        2025,
        "arXiv:2502.07753",
    ),
    "dsf": _entry(
        "dsf2026",
        "Anonymous",
        "Your Discriminative Model is Secretly a Generative Model",
        2026,
        "ICLR 2026 submission",
    ),
    "statistics": _entry(
        "yin2020dreaming",
        "Yin, Hongxu and Molchanov, Pavlo and Alvarez, Jose M. and Li, Zhizhong and Mallya, Arun and Hoiem, Derek and "
        "Jha, Niraj K. and Kautz, Jan",
        "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion",
        2020,
        "CVPR, arXiv:1912.08795",
    ),
    "variation": _entry(
        "mahendran2015understanding",
        "Mahendran, Aravindh and Vedaldi, Andrea",
        "Understanding Deep Image Representations by Inverting Them",
        2015,
        "CVPR, arXiv:1412.0035",
    ),
    "fourier": _entry(
        "olah2017feature",
        "Olah, Chris and Mordvintsev, Alexander and Schubert, Ludwig",
        "Feature Visualization",
        2017,
        "Distill",
    ),
    "maco": _entry(
        "fel2023unlocking",
        "Fel, Thomas and Boissin, Thibaut and Boutin, Victor and Picard, Agustin and Novello, Paul and Colin, Julien "
        "and Linsley, Drew and Rousseau, Tom and Cad{\\`e}ne, R{\\'e}mi and Goetschalckx, Lore and Gardes, Laurent and "
        "Serre, Thomas",
        "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization",
        2023,
        "NeurIPS, arXiv:2306.06805",
    ),
    "frechet": _entry(
        "heusel2017gans",
        "Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp",
        "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
        2017,
        "NeurIPS, arXiv:1706.08500",
    ),
    "kernel": _entry(
        "binkowski2018demystifying",
        "Bi{\\'n}kowski, Miko{\\l}aj and Sutherland, Danica J. and Arbel, Michael and Gretton, Arthur",
        "Demystifying MMD GANs",
        2018,
        "ICLR, arXiv:1801.01401",
    ),
}


def citations(settings: DrawSettings) -> list[str]:
    """The papers behind these settings and behind the measures, as BibTeX entries."""
    used = {
        "das": settings.parameterization == "stack" or settings.copies > 1,
        "dsf": settings.dsf_weight != 0,
        "statistics": settings.statistics != "none",
        # total variation, and feature inversion
        "variation": settings.variation_weight != 0 or settings.feature_weight != 0,
        "fourier": settings.parameterization == "fourier",
        "maco": settings.parameterization == "maco" or settings.alpha,
        "frechet": True,
        "kernel": True,
    }
    return [PAPERS[key] for key, wanted in used.items() if wanted]
