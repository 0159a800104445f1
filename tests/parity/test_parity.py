"""The sidecar with a preset does what the proxy does that it replaces, but where there is a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .differences import REASONS, cases, explained
from .keeping import AFFINITIES
from .measuring import Findings
from .page import PAGE, page
from .systems import Measured, asked


def test_every_request_goes_to_the_same_pool_or_elsewhere_for_a_reason(findings: Findings) -> None:
    """At least two thousand requests; what no rule of the table covers is a fault of the preset, or of the table."""
    assert len(findings.measured.requests) >= 2_000
    unexplained = [
        f"{case.sent.method} {case.sent.target}: {case.theirs.group}, here {case.ours.group}"
        for case in findings.reasons.get(None, ())
    ]
    assert unexplained == []


def test_every_reason_applies_somewhere_in_each_system_that_it_names(all_findings: list[Findings]) -> None:
    """A rule that covers nothing hides what it was written for."""
    applied = {
        (reason.name, findings.measured.system.name)
        for findings in all_findings
        for reason in findings.reasons
        if reason is not None
    }
    wanted = {(reason.name, system) for reason in REASONS for system in reason.systems}
    assert wanted == applied
    assert {reason for findings in all_findings for reason in findings.split} == set(AFFINITIES)


def test_what_they_keep_together_we_keep_together(findings: Findings) -> None:
    """Each class of requests that has one key there is on one worker here, but for those with a reason."""
    assert len(findings.classes) > 5
    assert findings.split.get(None, []) == []


def test_the_workers_get_what_was_sent(findings: Findings) -> None:
    """The request-lines as they were recorded behind both, octet for octet."""
    measured = findings.measured
    for records, outcomes in ((measured.their_records, measured.theirs), (measured.our_records, measured.ours)):
        expected = {
            sent.number: f"{sent.method} {sent.target}".encode("latin-1")
            for sent, outcome in zip(measured.requests, outcomes, strict=True)
            if outcome.worker
        }
        assert _recorded(records) == expected


def _recorded(records: Mapping[str, Sequence[bytes]]) -> dict[int, bytes]:
    lines = [line.partition(b" ") for lines in records.values() for line in lines]
    assert len({number for number, _, _ in lines}) == len(lines)
    return {int(number): line for number, _, line in lines}


def test_our_reader_chooses_as_the_real_proxy_does(findings: Findings) -> None:
    """For every request: the same upstream or backend, the same answer where it answers itself, and no doubt."""
    wrong = []
    for sent, real in zip(findings.measured.requests, findings.measured.theirs, strict=True):
        verdict = findings.proxy.verdict(asked(findings.measured.system, sent))
        said = verdict.pool if verdict.action == "forward" else f"{verdict.action} {verdict.status}"
        if said != (real.chosen or real.group) or verdict.doubts:
            wrong.append(f"{sent.method} {sent.target}: {said}, really {real.chosen or real.group}; {verdict.doubts}")
    assert wrong == []


def test_our_reader_knows_what_the_real_proxy_keeps_together(findings: Findings) -> None:
    """Requests of one key were on one server of the real proxy."""
    assert [each for each in findings.classes if len(each.servers) != 1] == []


def test_the_page_says_what_was_measured(all_findings: list[Findings]) -> None:
    """docs/parity.md; `PYTHONPATH=tests python -m parity` writes it anew."""
    assert PAGE.read_text("utf-8") == page([findings.result() for findings in all_findings])


def test_a_difference_is_noticed(findings: Findings) -> None:
    """That a request which lands elsewhere is a case, so that the tests above can fail."""
    measured = findings.measured
    swapped = Measured(
        measured.system,
        measured.requests,
        measured.theirs,
        tuple(measured.theirs[1:]) + tuple(measured.theirs[:1]),
        measured.their_records,
        measured.our_records,
    )
    assert None in explained(measured.system, cases(swapped))
