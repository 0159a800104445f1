"""docs/export-differences.md: what the real programs did with an exported file, in figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .measuring import RELEASE, Difference

PAGE = Path(__file__).parents[2] / "docs" / "export-differences.md"

_NAMES = {"nginx": "nginx", "haproxy": "HAProxy", "caddy": "Caddy"}


def page(results: Mapping[str, tuple[int, Sequence[Difference]]]) -> str:
    """The page for what was found with each program."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, tuple[int, Sequence[Difference]]]) -> Iterator[str]:
    yield "# Exported files, measured"
    yield ""
    yield "`PYTHONPATH=tests python -m exporting` writes this page, and the tests compare it with their results."
    yield "Each program runs with the file that `matrix-sidecar export` wrote for it, in front of workers that answer"
    yield f"with their names. The tests request every endpoint of Synapse {RELEASE} with each method and in each"
    yield "spelling of its path. A request counts as equal if the sidecar could choose the same worker or, for a"
    yield "room's sends, if any event persister answers. The sidecar's own choice may be another worker, because the"
    yield "programs hash differently."
    yield ""
    yield "| program | requests | equal | different |"
    yield "| --- | --: | --: | --: |"
    for program, (count, differences) in results.items():
        yield f"| {_NAMES[program]} | {count} | {count - len(differences)} | {len(differences)} |"
    yield ""
    for program, (_, differences) in results.items():
        if differences:
            yield f"## {_NAMES[program]}"
            yield ""
            yield "| request | sidecar | here |"
            yield "| --- | --- | --- |"
            for each in differences:
                yield f"| `{each.asked.method} {each.asked.target}` | {each.ours} | {each.theirs} |"
            yield ""
    yield "[exporting.md](exporting.md) lists what these programs do not do."
