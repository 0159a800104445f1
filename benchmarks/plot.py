"""A report as a picture: one panel of bars for each metric that has a budget, and latency. Writes SVG by itself."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.results import BUDGET, METRICS, OBSERVED, PAIR, Metric, Report, Row

_PANELS = ("small", "p99", "download", "upload", "poll")
_BAR, _GAP, _NAME, _LENGTH, _VALUE = 18, 6, 74, 300, 70
_HEAD, _FOOT, _MARGIN = 28, 18, 16
_WIDTH = 2 * _MARGIN + _NAME + _LENGTH + _VALUE
_OURS, _THEIRS, _LIMIT, _INK = "#0b6e4f", "#9aa5b1", "#c1121f", "#1f2933"


def plot(report: Report) -> str:
    """An SVG document. The red line in a panel is the strictest budget of that metric."""
    rows = [row for row in report.rows if row.numbers and row.name not in (OBSERVED, PAIR)]
    metrics = [metric for key in _PANELS for metric in METRICS if metric.key == key]
    height = _HEAD + len(rows) * (_BAR + _GAP) + _FOOT
    panels = [
        f'<g transform="translate({_MARGIN} {_MARGIN + number * height})">{_panel(report, rows, metric)}</g>'
        for number, metric in enumerate(metrics)
    ]
    total = 2 * _MARGIN + len(metrics) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" viewBox="0 0 {_WIDTH} {total}"'
        f' font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(report: Report, rows: Sequence[Row], metric: Metric) -> str:
    limit = _allowed(report, metric)
    values = [row.middle(metric.key) for row in rows]
    longest = max([*(value for value in values if value is not None), limit or 0.0, 1e-9])
    scale, bottom = _LENGTH / longest, _HEAD + len(rows) * (_BAR + _GAP)
    parts = [f'<text y="16" font-weight="bold">{escape(metric.title)} ({escape(metric.unit)})</text>']
    bars = [
        _bar(row, metric, value, _HEAD + number * (_BAR + _GAP), scale)
        for number, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    parts += [bar for bar, _ in bars]
    if limit is not None:
        x = _NAME + limit * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD - 4}" y2="{bottom}" stroke="{_LIMIT}"/>')
    return "".join([*parts, *(label for _, label in bars)])


def _bar(row: Row, metric: Metric, value: float | None, y: int, scale: float) -> tuple[str, str]:
    """The bar with its name, and apart from it the value, which is drawn over the line of the budget."""
    colour = _OURS if row.name == "sidecar" else _THEIRS
    text = "not measured" if value is None else f"{value:.{metric.digits}f}"
    width = (value or 0.0) * scale
    return (
        f'<text x="{_NAME - 6}" y="{y + 13}" text-anchor="end">{escape(row.name)}</text>'
        f'<rect x="{_NAME}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_NAME + width + 5:.1f}" y="{y + 13}" stroke="white" stroke-width="4" paint-order="stroke">'
        f"{text}</text>",
    )


def _allowed(report: Report, metric: Metric) -> float | None:
    """The most that the budget gives the sidecar, in the metric's unit."""
    peers = [
        (limit.factor, report.row(limit.peer).middle(metric.key) if limit.peer else 1.0)
        for limit in BUDGET
        if limit.metric == metric.key and limit.of == "sidecar"
    ]
    return min((factor * value for factor, value in peers if value is not None), default=None)
