"""The charts of ``diagnose``, from measures["flow"]; each is None if its numbers are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.axes import SHADE, axes_layout, complete_rows, curve_trace, interval_band, is_number
from bothways.report.charts import Chart, base_layout
from bothways.report.tables import significant

ROLL = ((47, 111, 187), (10, 127, 90), (200, 96, 24))  # RGB from the inner to the outer end of the roll
HUES = 12
PATHS_AT_MOST = 240


def profile(facts: Mapping[str, Any]) -> Chart | None:
    """The squared difference of the velocity from that of a straight path, over time."""
    pairs = zip(facts.get("times") or [], facts.get("profile") or [], strict=False)
    found = [(t, value) for t, value in pairs if is_number(t) and is_number(value)]
    if not found:
        return None
    t, values = zip(*found, strict=True)
    curve = curve_trace(t, [float(f"{value:.6g}") for value in values], "t %{x:.2f}<br>%{y:.4g}<extra></extra>")
    layout = axes_layout("t, from noise (0) to the picture (1)", "squared difference")
    layout["yaxis"]["rangemode"] = "tozero"
    place = max(range(len(values)), key=values.__getitem__)
    words = f"Squared difference per dimension, at most {significant(values[place])}, at t = {t[place]:.2g}."
    return Chart("Where the paths bend", {"data": [curve], "layout": layout}, words)


def round_trip(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The rms error of the round trip over the steps, a line per depth, on logarithmic axes."""
    found = [row for row in complete_rows(rows, "depth", "steps", "rms") if row["rms"] > 0]
    if not found:
        return None
    depths = sorted({row["depth"] for row in found})
    traces, notes = [], []
    for place, depth in enumerate(depths):
        line = sorted((row for row in found if row["depth"] == depth), key=lambda row: row["steps"])
        x, y = [row["steps"] for row in line], [row["rms"] for row in line]
        hover = f"depth {depth:g}<br>%{{x}} steps<br>%{{y:.3g}}<extra></extra>"
        traces.append(curve_trace(x, y, hover, opacity=0.35 + 0.65 * (place + 1) / len(depths)))
        label = {"x": math.log10(x[-1]), "y": math.log10(y[-1]), "text": f"depth {depth:g}", "xanchor": "left"}
        notes.append({**label, "xshift": 6, "showarrow": False})
    layout = axes_layout("steps each way", "rms difference", annotations=notes)
    layout["margin"] = {"r": 74}
    counts = sorted({row["steps"] for row in found})
    layout["xaxis"] |= {"type": "log", "tickvals": counts, "ticktext": [str(n) for n in counts]}
    layout["yaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "none"}
    worst, best = max(found, key=lambda row: row["rms"]), min(found, key=lambda row: row["rms"])
    words = " ".join(
        f"{start} {significant(row['rms'])}, at depth {row['depth']:g} in {row['steps']:,} steps{end}"
        for start, row, end in (("From", worst, ""), ("to", best, "."))
    )
    return Chart("Round-trip error", {"data": traces, "layout": layout}, words)


def gain(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The gain over depth, with its interval."""
    found = _by_depth(rows, "gain")
    if not found:
        return None
    most = max(found, key=lambda row: row["gain"])
    words = f"At most {significant(most['gain'])}, at depth {most['depth']:g}"
    hover = "depth %{x:.2f}<br>gain %{y:.3g}<extra></extra>"
    return _over_depth("Gain from the picture to a depth", found, "gain", "rms gain", hover, words)


def information(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The bound on mutual information over depth, with its interval."""
    found = _by_depth(rows, "nats_per_dim")
    if not found:
        return None
    ends = [f"{significant(row['nats_per_dim'])} at depth {row['depth']:.2g}" for row in (found[0], found[-1])]
    words, hover = f"From {' to '.join(ends)}", "depth %{x:.2f}<br>%{y:.3g} nats<extra></extra>"
    return _over_depth("Information by depth", found, "nats_per_dim", "nats per dimension", hover, words)


def _by_depth(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    return sorted(complete_rows(rows, "depth", key), key=lambda row: row["depth"])


def _over_depth(title: str, found: Sequence[Mapping[str, Any]], key: str, label: str, hover: str, words: str) -> Chart:
    """A curve over depth from zero, with its interval if there is one."""
    curve, band = curve_trace([row["depth"] for row in found], [row[key] for row in found], hover), interval_band(found)
    layout = axes_layout("depth, from the picture (0) to noise (1)", label)
    layout["yaxis"]["rangemode"] = "tozero"
    return Chart(title, {"data": [*band, curve], "layout": layout}, f"{words}{SHADE if band else ''}.")


# ---- the roll ------------------------------------------------------------------------------------------------------


def _hue(share: float) -> str:
    """The colour at a position along the roll, share in [0, 1]."""
    place = min(share, 1 - 1e-9) * (len(ROLL) - 1)
    low, rest = int(place), place - int(place)
    mixed = (round(a + rest * (b - a)) for a, b in zip(ROLL[low], ROLL[low + 1], strict=True))
    return f"rgb({','.join(map(str, mixed))})"


def _panel(place: int, reach: float) -> dict[str, Any]:
    """The axes of one of three square panels with a common scale."""
    number = "" if place == 0 else str(place + 1)
    bare = {"fixedrange": True, "zeroline": False, "showgrid": False, "ticks": "", "showticklabels": False}
    across = {**bare, "domain": [place * 0.345, place * 0.345 + 0.31], "range": [-reach, reach], "anchor": f"y{number}"}
    up = {**bare, "range": [-reach, reach], "scaleanchor": f"x{number}", "anchor": f"x{number}"}
    return {f"xaxis{number}": across, f"yaxis{number}": up}


def swiss_roll(facts: Mapping[str, Any]) -> Chart | None:
    """Three panels: the points, their paths, and their ends, coloured by position on the roll."""
    ways, angles = facts.get("paths") or [], facts.get("angles") or []
    if not ways or len(angles) != len(ways):
        return None
    low, high = min(angles), max(angles)
    shares = [(angle - low) / (high - low or 1) for angle in angles]
    reach = 1.05 * max(abs(value) for way in ways for place in (way[0], way[-1]) for value in place)
    traces, every = [], max(1, -(-len(ways) // PATHS_AT_MOST))
    for hue in range(HUES):
        own = [way for way, share in zip(ways, shares, strict=True) if min(int(share * HUES), HUES - 1) == hue]
        colour = _hue((hue + 0.5) / HUES)
        flat = [place for way in own[::every] for place in [*way, [None, None]]]
        line = {"mode": "lines", "line": {"color": colour, "width": 1}, "opacity": 0.55}
        dots = {"mode": "markers", "marker": {"color": colour, "size": 4}}
        for panel, places, style in (
            ("", [w[0] for w in own], dots),
            ("2", flat, line),
            ("3", [w[-1] for w in own], dots),
        ):
            x, y = [place[0] for place in places], [place[1] for place in places]
            axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "hoverinfo": "skip"}
            traces.append({"type": "scatter", "x": x, "y": y, **axes, **style})
    layout = base_layout(380, margin={"t": 28}, hovermode=False)
    for place in range(3):
        layout |= _panel(place, reach)
    layout["annotations"] = [
        {"x": 0.345 * k + 0.155, "y": 1, "xref": "paper", "yref": "paper", "yanchor": "bottom", "text": text}
        | {"showarrow": False}
        for k, text in enumerate(("the points", "on their way", "where they end"))
    ]
    words = f"{len(ways):,} points; blue at one end of the roll, orange at the other."
    return Chart("From the roll to noise", {"data": traces, "layout": layout}, words, wide=True, coloured=True)
