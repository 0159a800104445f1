"""How much of Synapse's work reaches workers, and how much goes wrong: by its documentation, its docker script, and us.

Run as `python benchmarks/coverage.py [--list]`. For every endpoint of the newest Synapse known, in six configurations,
each method and each spelling of its path is one request. It is *wrong* if the process that gets it cannot serve it, and
*left on main* if it goes to the main process although a worker of the same homeserver serves it. Who serves what is
Synapse's own word (`docs/endpoint-table.md`), and for stream writers what a real Synapse answered.

`worker_regexes.json` holds the expressions of Synapse 1.163.2's docs/workers.md and those of
docker/configure_workers_and_start.py of 1.157.1 that match any path of 1.163: for whom, for which methods (none: any),
and the expression.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from itertools import product
from pathlib import Path

from attrs import frozen

from sidecar.config.schema import Access, Settings, Worker
from sidecar.routing.compile import compile_plan
from sidecar.routing.decide import decide
from sidecar.routing.workers import Facts, planned_workers
from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints
from sidecar.synapse.names import MAIN
from sidecar.wire.fields import FieldSection

REGEXES = Path(__file__).parent / "worker_regexes.json"
PEER = "127.0.0.1"
NO_FIELDS = FieldSection(b"\r\n\r\n")
SIGN_ON = frozenset(
    ["oidc", "cas", "saml2", "email", "login_via_existing_session", "federation_whitelist_endpoint", "user_consent"]
)
CONFIGURATIONS = ("default", "no_media", "sso_email_etc", "mas", "experimental", "experimental_mas")

Choice = Callable[[str, str], str]
"""Who gets a request, by method and path."""


@frozen
class Homeserver:
    """Processes by what their listeners serve, and the writer of each stream; main writes the rest."""

    serves: Mapping[str, str]
    writers: Mapping[str, str]

    def able(self, row: Endpoint) -> set[str]:
        """Names of the processes that can answer the endpoint. A worker that only mounts it cannot."""
        names = {name for name, serves in self.serves.items() if set(serves.split()) & _resources(row, name)}
        if row.group == MAIN:
            names &= {MAIN}
        if "media_repo" in row.needs:
            names = {name for name in names if "media" in self.serves[name].split()}
        return names & {self.writers.get(row.stream or "", "main")} if row.hard else names


def _resources(row: Endpoint, name: str) -> frozenset[str]:
    return row.resources if name == "main" else row.worker_resources


SINGLE_WRITERS = ("typing", "to_device", "account_data", "receipts", "presence", "push_rules", "device_lists")
DOCUMENTED = Homeserver(
    {
        "main": "client federation consent",
        "generic": "client federation",
        "media": "media",
        **dict.fromkeys(SINGLE_WRITERS, "client"),
    },
    {**{stream: stream for stream in SINGLE_WRITERS}, "quarantined_media_changes": "media"},
)
"""Everything that docs/workers.md has a section for."""
SCRIPTED = Homeserver(
    {
        "main": "client federation",
        "user_dir": "client",
        "media_repository": "media client",
        "synchrotron": "client",
        "client_reader": "client",
        "federation_reader": "federation",
        "federation_inbound": "federation",
        "event_creator": "client",
        "thread_subscriptions": "client",
        **dict.fromkeys(SINGLE_WRITERS, "client"),
    },
    {stream: stream for stream in (*SINGLE_WRITERS, "thread_subscriptions")},
)
"""One process of every type of the script that takes requests."""


def without_media(homeserver: Homeserver) -> Homeserver:
    """The same without the processes that have a media repository."""
    serves = {name: words for name, words in homeserver.serves.items() if "media" not in words.split()}
    return Homeserver(serves, homeserver.writers)


def words_of(configuration: str, rows: Sequence[Endpoint]) -> frozenset[str]:
    """What of `Endpoint.needs` a configuration brings, but for the media repository."""
    words = {"mas"} if "mas" in configuration else {"not_mas"}
    if "experimental" in configuration:
        words |= {word for row in rows for need in row.needs for word in need.split("|") if "msc" in word}
    return frozenset(words) | (SIGN_ON if configuration == "sso_email_etc" else frozenset())


def requests(row: Endpoint) -> Iterator[tuple[str, str]]:
    """Methods and paths, but for HEAD, which goes where GET goes."""
    for segments in product(*map(_fillings, row.path)):
        for method in sorted(row.methods - {"HEAD"}):
            yield method, "/" + "/".join(segments)


def _fillings(segment: str) -> Sequence[str]:
    if "|" in segment:
        return segment.strip("{}").split("|")
    return ["any"] if segment.startswith("{") or segment == "**" else [segment]


def by_table(table: Sequence[tuple[str, str, str]], flags: int, homeserver: Homeserver) -> Choice:
    """The first expression that matches decides, else main; what nobody of that name is there for goes to main."""
    rows = [(name, methods.split(), re.compile(regex, flags)) for name, methods, regex in table]

    def choose(method: str, path: str) -> str:
        found = (name for name, methods, regex in rows if (not methods or method in methods) and regex.search(path))
        return next((name for name in found if name in homeserver.serves), "main")

    return choose


def by_sidecar(homeserver: Homeserver, rows: Sequence[Endpoint], words: frozenset[str]) -> Choice:
    """The first candidate."""
    workers = {
        name: Worker(endpoint=f"unix:/run/{name}.sock", serves=tuple(serves.split()))
        for name, serves in homeserver.serves.items()
    }
    everybody = (ip_network("127.0.0.0/8"),)
    settings = Settings(workers=workers, access=Access(admin=everybody, mas=everybody))
    facts = Facts(known=True, features=words, writers={stream: (name,) for stream, name in homeserver.writers.items()})
    plan = compile_plan(settings, planned_workers(settings), rows, facts)
    return lambda method, path: decide(method.encode(), path.encode(), NO_FIELDS, PEER, plan).candidates[0]


@frozen
class Result:
    """Of one way of choosing, in one configuration."""

    wrong: Sequence[str]
    left: Sequence[str]
    """Requests, as a method and a path."""


def judge(choose: Choice, homeserver: Homeserver, rows: Sequence[Endpoint]) -> tuple[Result, Counter[str]]:
    """What a choice makes of every request that anybody serves; and how many of them there are, and workers have."""
    wrong, left, counts = [], [], Counter[str]()
    for row in rows:
        able = homeserver.able(row)
        for method, path in requests(row) if able else ():
            chosen = choose(method, path)
            counts["requests"] += 1
            counts["for workers"] += able != {"main"}
            if chosen not in able:
                wrong.append(f"{method} {path}")
            elif chosen == "main" and able != {"main"}:
                left.append(f"{method} {path}")
    return Result(wrong, left), counts


def compared(
    configuration: str, table: Sequence[tuple[str, str, str]], flags: int, homeserver: Homeserver
) -> tuple[Result, Result, Counter[str]]:
    """The results of a table, and ours before the same processes."""
    rows = load_endpoints().endpoints
    words = words_of(configuration, rows)
    exist = [
        row for row in rows if all(need == "media_repo" or not words.isdisjoint(need.split("|")) for need in row.needs)
    ]
    if configuration == "no_media":
        homeserver = without_media(homeserver)
    theirs, counts = judge(by_table(table, flags, homeserver), homeserver, exist)
    ours, _ = judge(by_sidecar(homeserver, rows, words), homeserver, exist)
    return theirs, ours, counts


# nginx matches the script's expressions without regard to case.
TABLES = (("documentation", DOCUMENTED, re.RegexFlag(0)), ("docker script", SCRIPTED, re.IGNORECASE))


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; 1 where one of ours is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the requests as well")
    options = parser.parse_args(arguments)
    regexes = json.loads(REGEXES.read_text("utf-8"))
    listed: dict[str, dict[str, None]] = {}
    wrong = False
    for name, homeserver, flags in TABLES:
        print(f"| configuration | requests | workers have | wrong: {name} | sidecar | left on main: {name} | sidecar |")
        print("| --- | --: | --: | --: | --: | --: | --: |")
        for configuration in CONFIGURATIONS:
            theirs, ours, counts = compared(configuration, regexes[name], flags, homeserver)
            numbers = (
                *(counts["requests"], counts["for workers"]),
                *(len(theirs.wrong), len(ours.wrong), len(theirs.left), len(ours.left)),
            )
            print(f"| {configuration} |", " | ".join(map(str, numbers)), "|")
            wrong = wrong or bool(ours.wrong)
            for who, result in ((name, theirs), ("sidecar", ours)):
                listed.setdefault(f"{who}, wrong", {}).update(dict.fromkeys(result.wrong))
                listed.setdefault(f"{who}, left on main", {}).update(dict.fromkeys(result.left))
        print()
    for what, found in listed.items() if options.list else ():
        print(f"{what}:", *(f"  {each}" for each in found), sep="\n", end="\n\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
