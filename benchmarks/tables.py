"""A report as Markdown tables that can also be read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import BUDGET, METRICS, OBSERVED, PAIR, QUIET, Limit, Metric, Report, Row


def tables(report: Report) -> str:
    """Measured values, the sidecar's ratios to each peer, the budget, and where the numbers come from."""
    parts = [_measured(report), _ratios(report), _budget(report), _notes(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measured(report: Report) -> str:
    head = ["", *(row.name for row in report.rows)]
    lines = [[f"{metric.title}, {metric.unit}", *(_cell(row, metric) for row in report.rows)] for metric in METRICS]
    return table([head, *lines])


def _cell(row: Row, metric: Metric) -> str:
    """The median and, of several rounds, the spread from least to most."""
    values, middle = row.numbers.get(metric.key, ()), row.middle(metric.key)
    if middle is None:
        return "-"
    spread = f" ({min(values):.{metric.digits}f}-{max(values):.{metric.digits}f})" if len(values) > 1 else ""
    return f"{middle:.{metric.digits}f}{spread}"


def _ratios(report: Report) -> str:
    ours = {"sidecar", OBSERVED, PAIR}
    peers = [row.name for row in report.rows if row.name not in ours and row.numbers]
    if not report.row("sidecar").numbers or not peers:
        return ""
    lines = [
        [metric.title, *(_times(report.ratio(Limit(metric.key, 0, peer))) for peer in peers)]
        for metric in METRICS
        if metric.key != "waited"
    ]
    return table([["sidecar in terms of", *peers], *lines])


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


def _budget(report: Report) -> str:
    metrics = {metric.key: metric for metric in METRICS}
    lines = []
    for limit in BUDGET:
        ratio, metric = report.ratio(limit), metrics[limit.metric]
        verdict = "not measured" if ratio is None else "kept" if ratio <= limit.factor else "missed"
        title = metric.title if limit.of == "sidecar" else f"{metric.title}, {limit.of}"
        if limit.peer:
            lines.append([title, f"≤ {limit.factor:.3g} x {limit.peer}", _times(ratio), verdict])
        else:
            reached = "-" if ratio is None else f"{ratio:.1f} {metric.unit}"
            lines.append([title, f"≤ {limit.factor:.3g} {metric.unit}", reached, verdict])
    return table([["budget", "to reach", "reached", ""], *lines])


def _notes(report: Report) -> str:
    facts = [f"{name} {value}" for name, value in report.machine.items()]
    sizes = [f"{name} {value:g}" for name, value in report.sizes.items()]
    versions = [f"{row.name} {row.version}" for row in report.rows if row.version]
    problems = [f"{row.name}: {row.problem}" for row in report.rows if row.problem]
    if any((row.middle("waited") or 0.0) > QUIET for row in report.rows if row.name != PAIR):
        problems.append("Other programs took the proxies' processor during the run: no numbers for the record.")
    return "\n".join([", ".join(facts + versions) + ".", ", ".join(sizes) + ".", *problems])


def table(cells: Sequence[Sequence[str]]) -> str:
    """Cells, the first row of them the head, as a Markdown table with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([padded[0], "| " + " | ".join("-" * max(3, width) for width in widths) + " |", *padded[1:]])
