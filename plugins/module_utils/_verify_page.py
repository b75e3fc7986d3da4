# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a verification as one page of HTML, with pictures. PRIVATE to the collection."""

from __future__ import annotations

import html
import math
import os
import statistics

from ansible_collections.mlserving.triton.plugins.module_utils._verify_checks import Check, checked_targets, clean, full_name, general_problems

#: The order of the checks' groups in the picture.
GROUPS = ("server", "models", "http", "grpc", "metrics", "target")
#: A picture with more columns or cells than this has one column for several checks.
MAX_COLUMNS, MAX_CELLS = 24, 6000
#: Up to how many targets -> pixels of a cell, rows below one heading, whether a row has its name beside it.
SIZES = ((60, 18, 30, True), (240, 12, 60, True), (math.inf, 8, 50, False))
#: From so many targets on, tooltips leave out what the names of all replicas begin with.
MANY = 200
MAX_FAILURES, MAX_TEXT, MAX_TOOLTIP, MAX_LABEL = 300, 600, 120, 26
STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#59636e;--line:#d1d9e0;--pass:#35b48f;--fail:#b3200e;--none:#c3c9d0;
--sign:#fff;--passsign:#043d2d;--http:#0067a8;--grpc:#b45f00}
@media (prefers-color-scheme:dark){:root{--back:#0f1419;--text:#e6e9ec;--soft:#9aa5b1;--line:#38424d;--pass:#1c7f63;--fail:#ff8562;
--none:#48515b;--sign:#1a0500;--passsign:#d9fff2;--http:#62b5f0;--grpc:#f0a848}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:80rem;background:var(--back);color:var(--text);font:1rem/1.45 system-ui,sans-serif;
overflow-wrap:anywhere}
h1{font-size:1.35rem;line-height:1.25;margin:0 0 1rem;padding:.6rem .8rem;border:2px solid;border-left-width:.7rem}
h1.passed{border-color:var(--pass)}h1.failed{border-color:var(--fail)}
h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.5rem 0}.soft{color:var(--soft);font-size:.875rem}
nav a{color:inherit;margin-right:1rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0 0 1rem}dt{color:var(--soft)}dd{margin:0}
.blocks{display:flex;flex-wrap:wrap;gap:1rem 1.5rem;align-items:flex-start}.blocks div{max-width:100%;overflow-x:auto}
svg{display:block}.key svg{display:inline-block;vertical-align:-2px;margin:0 .3em 0 .8em}
text{fill:var(--text);font-family:ui-monospace,monospace}
.p{fill:var(--pass)}.f{fill:var(--fail)}.s{fill:var(--none)}.sign{fill:none;stroke:var(--sign);stroke-width:1.5}
.p+.sign{stroke:var(--passsign)}.s+.sign{stroke:var(--text)}
.http,.grpc{fill:none;stroke-width:2}.small path{stroke-width:1}.http{stroke:var(--http)}.grpc{stroke:var(--grpc)}.grid{stroke:var(--line)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line)}
td.finding{white-space:pre-wrap}
@media (max-width:45rem){thead{display:none}tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
td{display:block;border:0;padding:0}td:empty{display:none}td::before{content:attr(data-name) ": ";color:var(--soft)}}
"""
#: The cells of the picture, ten units wide: class -> sign.
SIGNS = {"p": "M2.2 5.2l2 2.2 3.6-4.6", "f": "M2.5 2.5l5 5m0-5l-5 5", "s": "M3 5h4"}


def as_html(result: dict) -> str:
    """Return the result as one page that needs nothing besides itself."""
    checked, general = checked_targets(result), general_problems(result)
    failures = [("", "", Check("", "", "", "failed", text)) for text in general]
    for report, checks in checked:
        failures += [(report["target"], report["node"], check) for check in checks if check.bad]
        if report["log"]:
            failures.append((report["target"], report["node"], Check("its log", "", "", "failed", "\n".join(report["log"]))))
    passed = sum(not any(check.bad for check in checks) for _report, checks in checked)
    sign, word = ("\u2714", "passed") if result["ok"] else ("\u2718", "failed")
    name = full_name(result)
    title = f"{word.upper()}: {passed} of {len(checked)} targets{f' of {name}' if name else ''} pass every check"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f'<h1 class="{word}">{sign} {_escape(title)}</h1>',
            _facts(result, checked),
            '<nav><a href="#failures">Failures</a><a href="#checks">Checks</a><a href="#latency">Latency</a></nav>',
            _failures(failures),
            _picture(checked),
            _latency(checked),
            "</body>\n</html>\n",
        ]
    )


def _escape(text: str, limit: int = MAX_TEXT) -> str:
    """Return text for HTML, shortened to ``limit`` characters."""
    text = str(text)
    return html.escape(clean(text if len(text) <= limit else text[: limit - 1] + "\u2026"))


def _facts(result: dict, checked: list) -> str:
    everything = [check for _report, checks in checked for check in checks]
    bad, skipped = sum(check.bad for check in everything), sum(check.outcome == "skipped" for check in everything)
    versions = sorted({report["version"] for report, _checks in checked if report["version"]})
    facts = {
        "Release": result.get("release"),
        "Namespace": result.get("namespace"),
        "Address": result.get("address"),
        "Started": result.get("started"),
        "Took": f"{result.get('seconds') or 0:.1f} s",
        "Targets": f"{len(checked)} on {len({report['node'] for report, _checks in checked if report['node']})} nodes",
        "Server versions": ", ".join(versions),
        "Models": ", ".join(sorted({entry["name"] for report, _checks in checked for entry in report["models"]})),
        "Notes": "; ".join(sorted({note for report, _checks in checked for note in report["notes"]})),
        "Checks": f"{len(everything) - bad - skipped} passed, {bad} failed, {skipped} skipped",
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{_escape(value)}</dd>" for name, value in facts.items() if value) + "</dl>"


def _failures(failures: list[tuple[str, str, Check]]) -> str:
    """Return the table of (target, node, check); what is no target's has neither."""
    head = '<h2 id="failures">Failures</h2>'
    if not failures:
        return head + "<p>Nothing failed.</p>"
    rows = []
    for target, node, check in failures[:MAX_FAILURES]:
        finding = check.message if check.protocol or not check.name else f"{check.name}: {check.message}"
        got = f'<br><span class="soft">got {_escape(check.got)}</span>' if check.got else ""
        cells = {"Target": target, "Node": node, "Protocol": check.protocol, "Model": check.model}
        columns = "".join(f'<td data-name="{name}">{_escape(text)}</td>' for name, text in cells.items())
        rows.append(f'<tr>{columns}<td class="finding" data-name="Finding">{_escape(finding)}{got}</td></tr>')
    more = len(failures) - MAX_FAILURES
    note = f"<p>{more} more are in verification.json and verification.xml, which lie beside this page.</p>" if more > 0 else ""
    headings = "".join(f"<th>{name}</th>" for name in ("Target", "Node", "Protocol", "Model", "Finding"))
    return f"{head}<table><thead><tr>{headings}</tr></thead><tbody>\n" + "\n".join(rows) + f"\n</tbody></table>{note}"


def _names(checked: list) -> tuple[list[str], str]:
    """Return (short name of each target, what the replicas' names begin with and the short ones leave out)."""
    names = [report["target"] for report, _checks in checked if report["kind"] == "replica"]
    prefix = os.path.commonprefix(names) if len(names) > 1 else ""
    prefix = prefix[: prefix.rfind("-") + 1]
    short = [report["target"][len(prefix) :] if report["kind"] == "replica" else report["target"] for report, _checks in checked]
    return [clean(name if len(name) <= MAX_LABEL else "\u2026" + name[1 - MAX_LABEL :]) for name in short], prefix


def _tooltips(checked: list, short: list[str]) -> list[str]:
    return short if len(checked) > MANY else [report["target"] for report, _checks in checked]


def _picture(checked: list) -> str:
    """Return the picture of targets x checks: a drawing for every few rows, as many beside each other as the screen has room for."""
    head = '<h2 id="checks">Checks of each target</h2>'
    if not checked:
        return head + "<p>There was no target.</p>"
    key, columns = _columns(checked)
    short, prefix = _names(checked)
    size, count, labelled = next(rest for most, *rest in SIZES if len(checked) <= most)
    cells = [f'<g id="{name}" transform="scale({(size - 1) / 10:g})">{_sign(name)}</g>' for name in SIGNS]
    keys = zip(SIGNS, ("passed", "failed", "skipped, or not asked"))
    key_text = "".join(f'<svg width="14" height="14" viewBox="0 0 10 10">{_sign(name)}</svg>{words}' for name, words in keys)
    rows = []
    for (_report, checks), label, tooltip in zip(checked, short, _tooltips(checked, short)):
        by_column = {}
        for check in checks:
            by_column.setdefault(getattr(check, key), []).append(check)
        rows.append((label, [_cell(tooltip, column, by_column.get(column, [])) for column in columns]))
    blocks = [_block(rows[start : start + count], columns, size, labelled) for start in range(0, len(rows), count)]
    note = f'<p class="soft">All replicas\' names begin with {_escape(prefix)}.</p>' if prefix else ""
    defs = f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{"".join(cells)}</defs></svg>'
    return f'{head}<p class="soft key">{key_text}</p>{note}{defs}<div class="blocks">' + "\n".join(blocks) + "</div>"


def _sign(name: str) -> str:
    return f'<rect class="{name}" width="10" height="10" rx="1.5"/><path class="sign" d="{SIGNS[name]}"/>'


def _columns(checked: list) -> tuple[str, list[str]]:
    """Return (the attribute of a check that names its column, the columns): the finest for which there is room."""
    for key in ("name", "subject", "group"):
        ranks = {getattr(check, key): GROUPS.index(check.group) for _report, checks in checked for check in checks}
        if len(ranks) <= MAX_COLUMNS and len(ranks) * len(checked) <= MAX_CELLS:
            break
    return key, sorted(ranks, key=ranks.get)


def _cell(target: str, column: str, checks: list[Check]) -> tuple[str, str]:
    """Return (class of the cell, escaped tooltip)."""
    bad = [check for check in checks if check.bad]
    passed = sum(check.outcome == "passed" for check in checks)
    many = f"{len(bad) or passed} of {len(checks)} " if len(checks) > 1 else ""
    if bad:
        return "f", _escape(f"{target}, {column}: {many}failed: ") + _escape(bad[0].message, MAX_TOOLTIP)
    if passed:
        return "p", _escape(f"{target}, {column}: {many}passed")
    return "s", _escape(f"{target}, {column}: {'skipped' if checks else 'not asked'}")


def _block(rows: list, columns: list[str], size: int, labelled: bool) -> str:
    """Return one drawing of rows (label, cells) with the columns' names above it, written upwards."""
    font = min(11, size)
    left = max(len(label) for label, _cells in rows) * font * 0.62 + 6 if labelled else 0
    shown = [column if len(column) <= MAX_LABEL else column[: MAX_LABEL - 1] + "\u2026" for column in columns]
    top = max(len(column) for column in shown) * font * 0.62 + 6
    width, height = left + len(columns) * size, top + len(rows) * size
    lines = [f'<svg width="{width:.0f}" height="{height:.0f}" font-size="{font}" role="img" aria-label="Checks of {len(rows)} targets">']
    for place, column in enumerate(shown):
        x = left + (place + 0.5) * size + font * 0.35
        lines.append(f'<text transform="translate({x:.1f} {top - 4:.0f}) rotate(-90)">{_escape(column)}</text>')
    for number, (label, cells) in enumerate(rows):
        lines.append(f'<g transform="translate({left:.0f} {top + number * size:.0f})">')
        if labelled:
            lines.append(f'<text x="-6" y="{size * 0.5 + font * 0.35:.1f}" text-anchor="end">{_escape(label)}</text>')
        lines += [f'<use href="#{kind}" x="{place * size}"><title>{tip}</title></use>' for place, (kind, tip) in enumerate(cells)]
        lines.append("</g>")
    return "<div>" + "\n".join([*lines, "</svg></div>"])


def _latency(checked: list) -> str:
    """Return the picture of the inferences' times, on a logarithmic scale."""
    head = '<h2 id="latency">Latency of each target</h2>'
    protocols = [name for name in ("http", "grpc") if any(entry["protocol"] == name for report, _c in checked for entry in report["inferences"])]
    if not protocols:
        return head + "<p>No inference was run.</p>"
    slowest = max(entry["milliseconds"] for report, _checks in checked for entry in report["inferences"])
    decades = max(1, math.ceil(math.log10(max(slowest, 1))))
    short = _names(checked)[0]
    _size, count, labelled = next(rest for most, *rest in SIZES if len(checked) <= most)
    rows = []
    for (report, _c), label, tooltip in zip(checked, short, _tooltips(checked, short)):
        asked = [entry for entry in report["inferences"] if not entry.get("skipped")]
        times = {name: [entry["milliseconds"] for entry in asked if entry["protocol"] == name] for name in protocols}
        rows.append((label, tooltip, times))
    blocks = [_lanes(rows[start : start + count], decades, labelled) for start in range(0, len(rows), count)]
    keys = "".join(f'<svg width="24" height="10"><path class="{name}" d="M0 5H24M9 1v8"/></svg>{name}' for name in protocols)
    text = "From the fastest to the slowest inference, a stroke at the median. The way through the API server is in it."
    return f'{head}<p class="soft key">{text}{keys}</p><div class="blocks">' + "\n".join(blocks) + "</div>"


def _lanes(rows: list, decades: int, labelled: bool) -> str:
    """Return one drawing of rows (label, tooltip, protocol -> milliseconds), a line for each protocol."""
    lane, plot, values, kind = (12, 110, 100, "large") if labelled else (5, 84, 0, "small")
    left = max(len(label) for label, _tip, _times in rows) * 6.2 + 10 if labelled else 14
    row = lane * len(rows[0][2]) + (4 if labelled else 2)
    height = 16 + len(rows) * row
    size = f'width="{left + plot + values + 24:.0f}" height="{height}" font-size="10"'
    lines = [f'<svg class="{kind}" {size} role="img" aria-label="Latency of {len(rows)} targets">']
    for power in range(decades + 1):
        x = left + plot * power / decades
        unit = f"{10**power} ms" if power < 3 else f"{10 ** (power - 3)} s"
        words = unit if decades <= 2 or power in (0, decades) else ""
        lines.append(f'<path class="grid" d="M{x:.0f} 14V{height}"/><text x="{x:.0f}" y="10" text-anchor="middle">{words}</text>')
    for number, (label, tooltip, times) in enumerate(rows):
        if labelled:
            lines.append(f'<text x="{left - 6:.0f}" y="{16 + (number + 0.5) * row + 2:.0f}" text-anchor="end">{_escape(label)}</text>')
        for place, (protocol, spent) in enumerate(times.items()):
            if not spent:
                continue
            low, middle, high = span = (min(spent), statistics.median(spent), max(spent))
            y, words = 16 + number * row + (place + 0.5) * lane, "/".join(_number(value) for value in (span if len(spent) > 1 else spent)) + " ms"
            x = [left + plot * math.log10(max(value, 1)) / decades for value in (low, middle, high)]
            path = f"M{x[0]:.0f} {y:g}H{max(x[2], x[0] + 1):.0f}M{x[1]:.0f} {y - lane * 0.4:g}v{lane * 0.8:g}"
            tip = _escape(f"{tooltip} {protocol}: {words}, {len(spent)} case{'s' if len(spent) > 1 else ''}")
            lines.append(f'<path class="{protocol}" d="{path}"><title>{tip}</title></path>')
            if labelled:
                lines.append(f'<text x="{left + plot + 10:.0f}" y="{y + 3:g}">{words}</text>')
    return "<div>" + "\n".join([*lines, "</svg></div>"])


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
