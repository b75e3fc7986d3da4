# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a benchmark as files: JSON, one page of HTML, and its plots as a picture. PRIVATE to the collection.

A result is a dict: ok, model, inputs, addresses (protocol -> address), tool, connections, started (UTC), seconds, steps (of _benchmark), notes, problems.
"""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import uuid

from ansible_collections.mlserving.triton.plugins.module_utils._verify_checks import clean
from ansible_collections.mlserving.triton.plugins.module_utils._verify_page import STYLE
from ansible_collections.mlserving.triton.plugins.module_utils._verify_report import ReportError

KEYS = ("ok", "model", "inputs", "addresses", "tool", "connections", "started", "seconds", "steps", "notes", "problems")
#: Pixels of a plot, and of the room for its labels at the left, right, top and bottom.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 520, 300, 62, 84, 26, 40
GRID_LINES = 5
#: What looks otherwise than on the page of a verification: the way the lines are drawn, and room for the numbers.
PLOT_STYLE = ".p99{stroke-dasharray:5 4}.dot{stroke:none}.dot.http{fill:var(--http)}.dot.grpc{fill:var(--grpc)}td.n,th.n{text-align:right}"


def as_json(result: dict) -> str:
    """Return the result as indented JSON."""
    return json.dumps({key: result[key] for key in KEYS}, indent=2) + "\n"


def as_html(result: dict) -> str:
    """Return the result as one page that needs nothing besides itself."""
    sign, word = ("\u2714", "passed") if result["ok"] else ("\u2718", "failed")
    title = f"{word.upper()}: benchmark of {result['model']}"
    problems = "".join(f"<li>{_escape(text)}</li>" for text in result["problems"])
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_escape(title)}</title>\n<style>{STYLE}{PLOT_STYLE}</style>\n</head>\n<body>",
            f'<h1 class="{word}">{sign} {_escape(title)}</h1>',
            _facts(result),
            f"<h2>Problems</h2><ul>{problems}</ul>" if problems else "",
            '<h2>Throughput and latency</h2><div class="blocks">' + "".join(f"<div>{plot}</div>" for plot in plots(result["steps"])) + "</div>",
            _steps(result["steps"]),
            "</body>\n</html>\n",
        ]
    )


def as_svg(result: dict) -> str:
    """Return the plots beside each other as one picture that can stand in a document."""
    drawn = plots(result["steps"])
    width = WIDTH * max(1, len(drawn))
    moved = [plot.replace("<svg ", f'<svg x="{WIDTH * number}" ', 1) for number, plot in enumerate(drawn)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}">'
    style = f'<style>{STYLE}{PLOT_STYLE}</style><rect width="{width}" height="{HEIGHT}" fill="var(--back)"/>'
    return "\n".join([head, style, *moved, "</svg>\n"])


def _escape(text) -> str:
    return html.escape(clean(str(text)))


def _facts(result: dict) -> str:
    facts = {
        "Model": result["model"],
        "Inputs": result["inputs"],
        **{f"{protocol.upper()} address": address for protocol, address in result["addresses"].items()},
        "Connections": result["connections"],
        "Measured by": result["tool"],
        "Started": result["started"],
        "Each step": f"{result['seconds']:g} s",
        "Notes": " ".join(result["notes"]),
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{_escape(value)}</dd>" for name, value in facts.items() if value) + "</dl>"


def _steps(steps: list[dict]) -> str:
    headings = "".join(f'<th class="n">{name}</th>' for name in ("Concurrency", "Inferences/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "Failed"))
    rows = []
    for step in steps:
        latency = [f"{step['latency'][key]:.3g}" if step["latency"] else "" for key in ("p50", "p90", "p95", "p99")]
        kinds = step["problem"] or ", ".join(f"{kind} ({count})" for kind, count in step["failed"].items()) or "0"
        names = ("Concurrency", "Inferences/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "Failed")
        cells = zip(names, [step["concurrency"], f"{step['throughput']:.0f}", *latency, kinds])
        numbers = "".join(f'<td class="n" data-name="{name}">{_escape(cell)}</td>' for name, cell in cells)
        rows.append(f'<tr><td data-name="Protocol">{_escape(step["protocol"])}</td>{numbers}</tr>')
    return f"<h2>Steps</h2><table><thead><tr><th>Protocol</th>{headings}</tr></thead><tbody>\n" + "\n".join(rows) + "\n</tbody></table>"


def plots(steps: list[dict]) -> list[str]:
    """Return two drawings over concurrency: throughput, and the latencies p50 and p99; none if nothing was measured."""
    measured = [step for step in steps if step["latency"]]
    if not measured:
        return []
    places = sorted({step["concurrency"] for step in measured})
    throughput, latency = [], []
    for protocol in dict.fromkeys(step["protocol"] for step in measured):
        own = sorted((step for step in measured if step["protocol"] == protocol), key=lambda step: step["concurrency"])
        throughput.append((protocol, protocol, [(step["concurrency"], step["throughput"]) for step in own]))
        for key in ("p50", "p99"):
            latency.append((f"{protocol} {key}", f"{protocol} {key}", [(step["concurrency"], step["latency"][key]) for step in own]))
    return [_plot("Inferences per second", places, throughput), _plot("Latency in milliseconds", places, latency)]


def _plot(title: str, places: list[int], lines: list[tuple[str, str, list[tuple[int, float]]]]) -> str:
    """Return one drawing.

    :param places: the concurrencies, beside each other at the same distance
    :param lines: (label, classes, points as (concurrency, value))
    """
    top = _round_up(max(value for _label, _kind, points in lines for _place, value in points))
    spread, depth = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    across = {place: LEFT + spread * ((number + 0.5) / len(places)) for number, place in enumerate(places)}

    def y(value: float) -> float:
        return TOP + depth * (1 - value / top)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-size="12" role="img" aria-label="{_escape(title)}">']
    parts.append(f'<text x="{LEFT}" y="14">{_escape(title)}</text>')
    for number in range(GRID_LINES + 1):
        value = top * number / GRID_LINES
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for place, x in across.items():
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{place}</text>')
    parts.append(f'<text x="{LEFT + spread / 2:.1f}" y="{HEIGHT - 4}" text-anchor="middle">concurrency</text>')
    ends: list[float] = []
    for label, kind, points in sorted(lines, key=lambda line: line[2][-1][1]):
        path = "L".join(f"{across[place]:.1f} {y(value):.1f}" for place, value in points)
        parts.append(f'<path class="{kind}" d="M{path}"/>')
        for place, value in points:
            tip = f"<title>{_escape(label)}, concurrency {place}: {value:.4g}</title>"
            parts.append(f'<circle class="dot {kind.split()[0]}" cx="{across[place]:.1f}" cy="{y(value):.1f}" r="3.5">{tip}</circle>')
        # From the lowest line upwards, each label above the one before.
        ends.append(min(y(points[-1][1]) + 4, ends[-1] - 14 if ends else HEIGHT))
        parts.append(f'<text x="{across[points[-1][0]] + 8:.1f}" y="{ends[-1]:.1f}">{_escape(label)}</text>')
    return "\n".join([*parts, "</svg>"])


def _round_up(value: float) -> float:
    """Return the next number of the kind 1, 2, 2.5, 5 times a power of ten, for an axis."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(factor * power for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * power >= value)


FILES = {"benchmark.json": as_json, "benchmark.html": as_html, "benchmark.svg": as_svg}


def write(folder: str, result: dict) -> list[str]:
    """Write the files into the folder, which is made if need be; return their paths.

    :raises ReportError: the folder or a file cannot be written
    """
    partial = os.path.join(folder, f".{uuid.uuid4().hex}")
    try:
        os.makedirs(folder, exist_ok=True)
        for name, form in FILES.items():
            with open(partial, "x", encoding="utf-8", newline="\n") as file:
                file.write(form(result))
            os.replace(partial, os.path.join(folder, name))
        return [os.path.join(folder, name) for name in FILES]
    except OSError as error:
        what = f"The report cannot be written into the folder {folder}: {error.strerror or error} ({error.filename or folder})."
        raise ReportError(f"{what} Name a folder that this user may write to, on a disk with room, or correct that one.") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
