"""A report as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.homeserver.results import GOALS, METRICS, OURS, PEER, Case, Report, Row
from benchmarks.results import Metric
from benchmarks.tables import table

_BAR, _GAP, _NAME, _LENGTH, _VALUE, _HEAD, _FOOT, _MARGIN = 18, 6, 150, 300, 90, 28, 18, 16
_WIDTH = 2 * _MARGIN + _NAME + _LENGTH + _VALUE
_OURS, _THEIRS, _INK = "#0b6e4f", "#9aa5b1", "#1f2933"


def tables(report: Report) -> str:
    """A table for each case, the goals, and where the numbers come from."""
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    parts = [_case(case) for case in report.cases]
    return "\n\n".join([*parts, _goals(report), f"{facts}; {report.seconds:g} s for each round."]) + "\n"


def _case(case: Case) -> str:
    head = ["for one message", *(_title(metric) for metric in METRICS)]
    lines = [[row.variant, *(_cell(row, metric) for metric in METRICS)] for row in case.rows if row.numbers]
    problems = [f"{row.variant}: {row.problem}" for row in case.rows if row.problem]
    failed = [
        f"{row.variant}: {key} {sum(values):.0f} times"
        for row in case.rows
        for key, values in row.numbers.items()
        if key.startswith("failed") or (key == "missing" and any(values))
    ]
    return "\n\n".join([f"**{case.title}**", table([head, *lines]), *problems, *failed])


def _title(metric: Metric) -> str:
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def _cell(row: Row, metric: Metric) -> str:
    """The median and, of several rounds, the spread from least to most."""
    values, middle = row.numbers.get(metric.key, ()), row.middle(metric.key)
    if middle is None:
        return "-"
    spread = f" ({min(values):.{metric.digits}f}-{max(values):.{metric.digits}f})" if len(values) > 1 else ""
    return f"{middle:.{metric.digits}f}{spread}"


def _goals(report: Report) -> str:
    titles = {metric.key: metric.title for metric in METRICS}
    head = [f"{OURS} in terms of {PEER}", *(f"{titles[key]} ≤ {factor:g}" for key, factor in GOALS.items())]
    lines = [
        [case.title, *(_judged(case.ratio(key), factor) for key, factor in GOALS.items())] for case in report.cases
    ]
    return table([head, *lines])


def _judged(ratio: float | None, factor: float) -> str:
    return "not measured" if ratio is None else f"{ratio:.3f}" if ratio <= factor else f"{ratio:.3f}, missed"


def plot(report: Report) -> str:
    """An SVG document with a panel for each case: what Synapse and PostgreSQL spend on a message."""
    panels, y = [], _MARGIN
    for case in report.cases:
        rows = [row for row in case.rows if row.numbers]
        panels.append(f'<g transform="translate({_MARGIN} {y})">{_panel(case, rows)}</g>')
        y += _HEAD + len(rows) * (_BAR + _GAP) + _FOOT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
        f' font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(case: Case, rows: Sequence[Row]) -> str:
    longest = max([*(_total(row) for row in rows), 1e-9])
    parts = [f'<text y="16" font-weight="bold">{escape(case.title)}</text>']
    for number, row in enumerate(rows):
        y, width = _HEAD + number * (_BAR + _GAP), _total(row) / longest * _LENGTH
        colour = _OURS if row.variant.startswith(OURS) else _THEIRS
        parts.append(
            f'<text x="{_NAME - 6}" y="{y + 13}" text-anchor="end">{escape(row.variant)}</text>'
            f'<rect x="{_NAME}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'
            f'<text x="{_NAME + width + 5:.1f}" y="{y + 13}">{_total(row):.0f} CPU ms</text>'
        )
    return "".join(parts)


def _total(row: Row) -> float:
    return (row.middle("synapse") or 0.0) + (row.middle("postgres") or 0.0)
