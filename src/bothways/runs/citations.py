"""BibTeX entries of the papers behind the methods of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bothways import registry


def _entry(key: str, author: str, title: str, year: int, venue: str) -> str:
    fields = {"author": author, "title": title, "year": str(year), "journal": venue}
    return f"@article{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}"


PAPERS = {
    "latents": _entry(
        "rombach2022high",
        'Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Bj{\\"o}rn',
        "High-Resolution Image Synthesis with Latent Diffusion Models",
        2022,
        "CVPR, arXiv:2112.10752",
    ),
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
    "matching": _entry(
        "gorgun2025vital",
        'G{\\"o}rg{\\"u}n, Ada and Schiele, Bernt and Fischer, Jonas',
        "VITAL: More Understandable Feature Visualization through Distribution Alignment and Relevant Information Flow",
        2025,
        "ICCV, arXiv:2503.22399",
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
    "flow": _entry(
        "lipman2023flow",
        "Lipman, Yaron and Chen, Ricky T. Q. and Ben-Hamu, Heli and Nickel, Maximilian and Le, Matt",
        "Flow Matching for Generative Modeling",
        2023,
        "ICLR, arXiv:2210.02747",
    ),
    "ot": _entry(
        "tong2024improving",
        "Tong, Alexander and Fatras, Kilian and Malkin, Nikolay and Huguet, Guillaume and Zhang, Yanlei and "
        "Rector-Brooks, Jarrid and Wolf, Guy and Bengio, Yoshua",
        "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport",
        2024,
        "TMLR, arXiv:2302.00482",
    ),
    "gvp": _entry(
        "albergo2023stochastic",
        "Albergo, Michael S. and Boffi, Nicholas M. and Vanden-Eijnden, Eric",
        "Stochastic Interpolants: A Unifying Framework for Flows and Diffusions",
        2023,
        "arXiv:2303.08797",
    ),
    "song2021score": _entry(
        "song2021score",
        "Song, Yang and Sohl-Dickstein, Jascha and Kingma, Diederik P. and Kumar, Abhishek and Ermon, Stefano and "
        "Poole, Ben",
        "Score-Based Generative Modeling through Stochastic Differential Equations",
        2021,
        "ICLR, arXiv:2011.13456",
    ),
    "cuturi2013sinkhorn": _entry(
        "cuturi2013sinkhorn",
        "Cuturi, Marco",
        "Sinkhorn Distances: Lightspeed Computation of Optimal Transport",
        2013,
        "NeurIPS, arXiv:1306.0895",
    ),
    "kidger2021efficient": _entry(
        "kidger2021efficient",
        "Kidger, Patrick and Foster, James and Li, Xuechen and Lyons, Terry",
        "Efficient and Accurate Gradients for Neural SDEs",
        2021,
        "NeurIPS, arXiv:2105.13493",
    ),
    "prg": _entry(
        "xue2024pretrained",
        "Xue, Rongkun and Zhang, Jinouwen and Niu, Yazhe and Shen, Dazhong and Ma, Bingqi and Liu, Yu and Yang, Jing",
        "Pretrained Reversible Generation as Unsupervised Visual Representation Learning",
        2024,
        "arXiv:2412.01787",
    ),
    "activations": _entry(
        "xiang2023denoising",
        "Xiang, Weilai and Yang, Hongyu and Huang, Di and Wang, Yunhong",
        "Denoising Diffusion Autoencoders are Unified Self-supervised Learners",
        2023,
        "ICCV, arXiv:2303.09769",
    ),
    "knn": _entry(
        "wu2018unsupervised",
        "Wu, Zhirong and Xiong, Yuanjun and Yu, Stella X. and Lin, Dahua",
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
        2018,
        "CVPR, arXiv:1805.01978",
    ),
    "likelihood": _entry(
        "grathwohl2019ffjord",
        "Grathwohl, Will and Chen, Ricky T. Q. and Bettencourt, Jesse and Sutskever, Ilya and Duvenaud, David",
        "FFJORD: Free-Form Continuous Dynamics for Scalable Reversible Generative Models",
        2019,
        "ICLR, arXiv:1810.01367",
    ),
    "corruptions": _entry(
        "hendrycks2019benchmarking",
        "Hendrycks, Dan and Dietterich, Thomas",
        "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
        2019,
        "ICLR, arXiv:1903.12261",
    ),
    "calibration": _entry(
        "guo2017calibration",
        "Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.",
        "On Calibration of Modern Neural Networks",
        2017,
        "ICML, arXiv:1706.04599",
    ),
}


def cited(*references: str) -> list[str]:
    """BibTeX entries of references, without duplicates. references: keys of ``PAPERS`` or entries; "" is ignored."""
    return list(dict.fromkeys(r if r.lstrip().startswith("@") else PAPERS[r] for r in references if r))


def reference_of(kind: str, given: Any) -> str:
    """The reference of a choice from the registry; "" if it has none, or is a file that may not run here."""
    foreign = isinstance(given, str) and registry.is_address(given) and not registry.is_allowed(given)
    return "" if given is None or foreign else registry.find(kind, given).reference


def flow_citations(*used: str, path: Any = None, coupling: Any = None) -> list[str]:
    """The papers behind a run of a flow: flow matching, PRG, path, coupling, and others by key.

    A path outside the registry, such as the noise schedule of a diffusion model, has no reference.
    """
    named = path if not isinstance(path, str) or path in registry.names("path") or registry.is_address(path) else None
    return cited("flow", "prg", reference_of("path", named), reference_of("coupling", coupling), *used)


def registry_citations(chosen: Iterable[tuple[str, Any]]) -> list[str]:
    """The papers behind choices from the registry. chosen: (kind, name, address or object) pairs."""
    return cited(*(reference_of(kind, given) for kind, given in chosen))
