"""Writes the tables of `docs/metrics.md` from the catalogue: `PYTHONPATH=tests python -m pages.metrics`.

A test fails where the page differs from what this writes. Adds no fact of its own about any metric.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sidecar.metrics.catalogue import LABELS, SECTIONS, MetricGroup
from sidecar.records.histogram import DURATIONS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_BEGIN, _END = "<!-- made by PYTHONPATH=tests python -m pages.metrics -->\n", "<!-- end of what is made -->\n"


def renewed(page: str) -> str:
    """The text of the page with its tables made anew."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    made = "\n".join(_parts())
    return f"{before}{_BEGIN}\n{made}\n{_END}{after}"


def _parts() -> Iterator[str]:
    for section in SECTIONS:
        yield from _section(section)
    yield "### Labels\n\n| label | values |\n| --- | --- |"
    for name, meaning in LABELS.items():
        yield f"| `{name}` | {meaning} |"
    bounds = ", ".join(f"{bound:g}" for bound in DURATIONS)
    yield f"\nBuckets of all histograms, in seconds: {bounds}.\n"


def _section(section: MetricGroup) -> Iterator[str]:
    yield f"### {section.title}\n\n| metric | kind | labels | |\n| --- | --- | --- | --- |"
    for metric in section.metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |"
    yield ""


def main(page: Path = PAGE) -> None:
    """Renew the page."""
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
