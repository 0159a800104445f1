"""Reads the JUnit files of several pytest runs as one: a test that was skipped in one must have run in another."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

Case = tuple[str, str, str]
AGAIN = ".again.xml"
"""Ends the names of files about tests that had failed and were run once more."""
RANK = ("skipped", "passed", "failed")


def cases(paths: Iterable[str]) -> Iterator[tuple[Case, str, str]]:
    """Each test with its file, how it ended, and the reason."""
    for path in paths:
        for element in ElementTree.parse(path).iter("testcase"):  # noqa: S314  # pytest wrote it
            case = (element.get("file", ""), element.get("classname", ""), element.get("name", ""))
            ends = [(child.tag, child.text or "") for child in element if child.tag in ("skipped", "failure", "error")]
            tag, reason = ends[-1] if ends else ("passed", "")
            yield case, {"failure": "failed", "error": "failed"}.get(tag, tag), reason


def skipped(paths: list[str]) -> int:
    """Prints the files in which a test was skipped."""
    for file in sorted({file for (file, _, _), end, _ in cases(paths) if end == "skipped"}):
        print(file)
    return 0


def summary(paths: list[str]) -> int:
    """Prints what was skipped everywhere, and the sum; 1 if anything was skipped or failed."""
    best: dict[Case, tuple[str, str]] = {}
    for case, end, reason in cases(path for path in paths if not path.endswith(AGAIN)):
        if RANK.index(end) >= RANK.index(best.get(case, ("skipped", ""))[0]):
            best[case] = (end, reason)
    for case, end, reason in cases(path for path in paths if path.endswith(AGAIN)):
        told = "passed only by itself" if end == "passed" else f"{end} by itself, too"
        print(f"{told}: {case[0]}: {case[2]}")
        best[case] = (end, reason)
    # A file that was skipped as a whole is one case without a class; its tests, once they have run, are others.
    ran = {file for (file, _, _), (end, _) in best.items() if end != "skipped"}
    left = {
        case: reason
        for case, (end, reason) in best.items()
        if end == "skipped" and not (not case[1] and case[0] in ran)
    }
    for (file, _, name), reason in left.items():
        print(f"skipped: {file}: {name}: {reason}")
    count = Counter(end for end, _ in best.values())
    print(f"{count['passed']} passed, {count['failed']} failed" + (f", {len(left)} skipped" if left else ""))
    return 1 if left or count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit({"skipped": skipped, "summary": summary}[sys.argv[1]](sys.argv[2:]))
