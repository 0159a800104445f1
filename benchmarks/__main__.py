"""`python -m benchmarks`: measures the sidecar, nginx, HAProxy and Caddy side by side and compares them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from benchmarks import multiplexed, observing, results
from benchmarks.load import LoadError
from benchmarks.measure import QUICK, Run, Sizes
from benchmarks.plot import plot
from benchmarks.profiling import profile
from benchmarks.programs import PROGRAMS, ROOT, Program, ProgramError
from benchmarks.tables import tables

_BEGIN, _END = "<!-- measured: python -m benchmarks --docs -->\n", "<!-- end of measured -->\n"
_HOMESERVER, _HOMESERVER_END = (
    "<!-- measured: python -m benchmarks --homeserver --docs -->\n",
    "<!-- end of homeserver -->\n",
)
_OBSERVED, _OBSERVED_END = "<!-- measured: python -m benchmarks --observing --docs -->\n", "<!-- end of observed -->\n"
_HTTP2, _HTTP2_END = "<!-- measured: python -m benchmarks --http2 --docs -->\n", "<!-- end of http2 -->\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all programs that are installed were measured, 1 when one of them failed, 2 for bad options."""
    options = _options().parse_args(arguments)
    if options.profile:
        try:
            print(profile(Sizes().connections), end="")
        except ProgramError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    if options.observing:
        return _observing(options)
    if options.http2:
        return _multiplexed(options)
    if options.homeserver:
        return _homeserver(options)
    report = results.from_json(options.read.read_text()) if options.read else _measured(options)
    print(tables(report), end="")
    if options.json:
        options.json.write_text(results.to_json(report))
    if options.plot:
        options.plot.write_text(plot(report))
    if options.docs:
        write_docs(report, ROOT / "docs")
    return 1 if any(row.problem and not row.absent for row in report.rows) else 0


def _observing(options: argparse.Namespace) -> int:
    sizes = observing.QUICK if options.quick else observing.Sizes()
    if options.rounds:
        sizes = evolve(sizes, rounds=options.rounds)
    try:
        observed = observing.observe(sizes, _say)
    except (ProgramError, LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    text = observing.report(observed)
    print(text, end="")
    if options.docs:
        page = ROOT / "docs" / "benchmarks.md"
        page.write_text(between(page.read_text(), _OBSERVED, _OBSERVED_END, f"\n{text}\n"))
    return 0


def _multiplexed(options: argparse.Namespace) -> int:
    sizes = multiplexed.QUICK if options.quick else multiplexed.Sizes()
    if options.rounds:
        sizes = evolve(sizes, rounds=options.rounds)
    try:
        text = multiplexed.report(multiplexed.measure(sizes, _say))
    except (ProgramError, LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    print(text, end="")
    if options.docs:
        page = ROOT / "docs" / "benchmarks.md"
        page.write_text(between(page.read_text(), _HTTP2, _HTTP2_END, f"\n{text}\n"))
    return 0


def _homeserver(options: argparse.Namespace) -> int:
    """What the proxies make a real Synapse pay; imported here, because it needs one."""
    from end_to_end.children import LaboratoryError
    from end_to_end.services import missing

    from benchmarks.homeserver import results as paid
    from benchmarks.homeserver.run import BRIEF, RULES, Plan, run
    from benchmarks.homeserver.tables import plot as picture
    from benchmarks.homeserver.tables import tables as lines

    if not options.read and (absent := missing()):
        print(f"a homeserver needs {', '.join(absent)}", file=sys.stderr)
        return 1
    plan = RULES if options.rules else BRIEF if options.brief else Plan()
    if options.rounds:
        plan = evolve(plan, rounds=options.rounds)
    try:
        report = paid.from_json(options.read.read_text()) if options.read else run(plan, _say)
    except (ProgramError, LaboratoryError) as error:
        print(error, file=sys.stderr)
        return 1
    print(lines(report), end="")
    if options.json:
        options.json.write_text(paid.to_json(report))
    if options.plot:
        options.plot.write_text(picture(report))
    if options.docs:
        page = ROOT / "docs" / "homeserver.md"
        text = f"\n![Processor time of Synapse and PostgreSQL as bars](homeserver.svg)\n\n{lines(report)}\n"
        page.write_text(between(page.read_text(), _HOMESERVER, _HOMESERVER_END, text))
        page.with_suffix(".svg").write_text(picture(report))
        page.with_suffix(".json").write_text(paid.to_json(report))
    return 1 if any(row.problem for case in report.cases for row in case.rows) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def between(page: str, begin: str, end: str, text: str) -> str:
    """The page with `text` between two lines of it."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{text}{end}{rest.partition(end)[2]}"


def _measured(options: argparse.Namespace) -> results.Report:
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = evolve(sizes, rounds=options.rounds)
    return Run(options.only or PROGRAMS, sizes, _say).report()


def write_docs(report: results.Report, docs: Path) -> None:
    """Puts the tables between the two markers of `benchmarks.md`, and picture and numbers beside it."""
    page = docs / "benchmarks.md"
    picture = "![The comparison as bars](benchmarks.svg)"
    page.write_text(between(page.read_text(), _BEGIN, _END, f"\n{picture}\n\n{tables(report)}\n"))
    (docs / "benchmarks.svg").write_text(plot(report))
    (docs / "benchmarks.json").write_text(results.to_json(report))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds for each program; says that it works")
    parser.add_argument("--only", type=_programs, metavar="NAME,NAME", help="these programs instead of all")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds in which the programs take turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, round by round")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the comparison as SVG")
    parser.add_argument("--docs", action="store_true", help="renew tables, picture and numbers in docs/")
    parser.add_argument("--from", dest="read", type=Path, metavar="FILE", help="measure nothing, read this JSON")
    parser.add_argument("--observing", action="store_true", help="what metrics and access log cost, instead")
    parser.add_argument("--http2", action="store_true", help="what a request costs over HTTP/2, instead")
    parser.add_argument("--homeserver", action="store_true", help="what a real Synapse pays behind each, instead")
    parser.add_argument("--brief", action="store_true", help="with --homeserver: one case, in a few minutes")
    parser.add_argument("--rules", action="store_true", help="with --homeserver: our rules, each switched off in turn")
    parser.add_argument("--profile", action="store_true", help="sample the sidecar instead of comparing")
    return parser


def _programs(names: str) -> tuple[Program, ...]:
    known = {program.name: program for program in PROGRAMS}
    for name in names.split(","):
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
    return tuple(known[name] for name in names.split(","))


if __name__ == "__main__":
    sys.exit(main())
