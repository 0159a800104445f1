"""`docs/parity.md`, made from what was measured: `python -m tests.parity` writes it, a test compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from . import haproxy_file, nginx_files
from .differences import REASONS, Case, Reason
from .keeping import AFFINITIES, Affinity, Class

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"

_TITLES = {
    "docker-nginx": ("nginx beside Synapse in Docker, with room workers", "docker-nginx.yaml"),
    "nginx-workers": ("nginx with workers for logins, both kinds of sync, federation and media", "nginx-workers.yaml"),
    "two-hosts": ("HAProxy before a homeserver on several hosts", "two-hosts.yaml"),
}
MENDED = {**nginx_files.MENDED, "two-hosts": haproxy_file.MENDED}

_HEAD = """\
# Beside the proxies that it replaces

People who run Synapse with workers have published three proxy configurations. For each there is a preset that does
the same. `tests/parity` runs the real program with the original configuration, and the sidecar with the preset, in
front of the same workers. It sends both the same requests, and compares which workers get them. It writes this page
from the results; the test fails if the page is out of date.

The requests come from the endpoint table of Synapse 1.163: every method and spelling of every path, three times, with
users, rooms with and without a domain, events, aliases, transaction IDs and tags, plain or percent-encoded in either
case, tokens in the header or the query, syncs with and without `since`, from several addresses, and some paths that
Synapse does not have. Each worker records the request line that it gets: on both sides it is what the client sent,
byte for byte.

For each difference there is a rule in `tests/parity/differences.py` with the reason; the first rule that matches
counts. A difference without a reason fails the test, and so does a reason that never applies.
"""
_TAIL = """\
## What was fixed

The configurations run as published, except for what the nginx 1.22 and the HAProxy 2.6 of Debian 12 do not load:

| preset | what | now |
| --- | --- | --- |
{mended}

A test on one machine also needs its own addresses, sockets and files. HAProxy's public port has no certificate, and its
`maxconn` fits the machine's open files. nginx takes the client's address from X-Forwarded-For, as behind another
proxy. Both name in their responses the upstream that they chose. Host names are examples.
"""


@frozen
class Result:
    """What was found for one system."""

    name: str
    requests: int
    reasons: Mapping[Reason, Sequence[Case]]
    classes: Sequence[Class]
    split: Mapping[Affinity, Sequence[Class]]


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    parts = [_HEAD, *("\n".join(_section(each)) for each in results)]
    mended = "\n".join(f"| {name} | {what} | {now} |" for name in MENDED for what, now in MENDED[name])
    return "\n".join([*parts, _TAIL.format(mended=mended)])


def _section(result: Result) -> Iterator[str]:
    title, preset = _TITLES[result.name]
    different = sum(len(cases) for cases in result.reasons.values())
    yield f"## {title}"
    yield ""
    yield (
        f"Preset: [conf/{preset}](../conf/{preset}). {result.requests:,} requests to each side; "
        f"{result.requests - different:,} go to the same pool, {different:,} elsewhere for a reason:"
    )
    yield ""
    yield "| reason | requests | why the sidecar is right | for example |"
    yield "| --- | --: | --- | --- |"
    for reason in (each for each in REASONS if each in result.reasons):
        cases = result.reasons[reason]
        yield f"| {reason.name} | {len(cases)} | {reason.why} | {_example(cases[len(cases) // 2])} |"
    yield ""
    yield from _kept(result)


def _example(case: Case) -> str:
    path = case.sent.path if len(case.sent.path) < 90 else f"{case.sent.path[:87]}…"
    return f"`{case.sent.method} {path.replace('|', '%7C')}`: {case.theirs.group}, here {case.ours.group}"


def _kept(result: Result) -> Iterator[str]:
    kept = [each for each in result.classes if each.kept]
    requests = sum(each.requests for each in kept)
    yield (
        f"Of the keys that the proxy keeps on one server, {len(result.classes)} are in two or more of these requests. "
        f"The {requests:,} requests of {len(kept)} of them also reach one worker each in the sidecar."
    )
    for reason in (each for each in AFFINITIES if each in result.split):
        count = sum(each.requests for each in result.split[reason])
        yield f"Not kept together are {count} requests, *{reason.name}*: {reason.why}"
    yield ""
