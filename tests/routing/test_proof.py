"""Every endpoint of Synapse, in seven releases and six configurations, before processes of several shapes.

Two claims, both without exception but for those that are named here: whoever is chosen, first or later, serves the
request; and what a worker can serve does not stay with the main process. Files of Synapse are written and read as in a
real start. Who serves what is worked out here anew, from the rows and from what was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import field, frozen

from benchmarks import coverage
from sidecar.loading.deployment import Deployment, read_deployment
from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints
from sidecar.synapse.releases import release_of

from .plans import asked

RELEASES = ("1.111", "1.120", "1.130", "1.140", "1.150", "1.157", load_endpoints().newest)

STAYS_ON_MAIN = {
    "msc4108_rendezvous_session": "the session is in the memory of the process that made it, and only main makes any",
    "metrics": "they are of one process",
    "open_id_user_info": "a worker's store cannot look the token up: 500",
    "federation_unstable_get_extremities": "a worker's store cannot read them: 500",
}
"""Endpoints that workers mount and cannot answer. Reading others' presence is not among them: its writer can."""

# -- processes


@frozen
class Written:
    """A process as a file describes it."""

    name: str
    serves: str = "client federation"
    media: bool = True

    def without_media(self) -> Written:
        return Written(self.name, " ".join(each for each in self.serves.split() if each != "media"), media=False)

    def listener(self) -> dict[str, Any]:
        return {"type": "http", "path": f"/run/{self.name}.sock", "resources": [{"names": self.serves.split()}]}

    def worker(self) -> dict[str, Any]:
        return {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": self.name,
            "worker_listeners": [self.listener()] if self.serves else [],
            "enable_media_repo": self.media,
        }


@frozen
class Shape:
    """A homeserver's processes, main first, and its `stream_writers`; main writes what is left out."""

    processes: tuple[Written, ...]
    writers: dict[str, tuple[str, ...]] = field(factory=dict)

    def homeserver(self) -> dict[str, Any]:
        return {
            "server_name": "example.org",
            "report_stats": False,
            "listeners": [self.processes[0].listener()],
            "enable_media_repo": self.processes[0].media,
            "instance_map": {each.name: {"path": f"/run/{each.name}.replication"} for each in self.processes},
            "stream_writers": {stream: list(names) for stream, names in self.writers.items()},
            "media_instance_running_background_jobs": next((each.name for each in self.processes if each.media), None),
        }


MAIN = Written("main", "client federation consent")
MAIN_BESIDE_MEDIA = Written("main", "client federation consent", media=False)
SINGLE = {
    "typing": ("typing1",),
    "to_device": ("to_device1",),
    "account_data": ("account_data1",),
    "presence": ("presence1",),
    "push_rules": ("push_rules1",),
}
SEVERAL = {
    "receipts": ("receipts1", "receipts2"),
    "device_lists": ("device_lists1", "device_lists2"),
    "thread_subscriptions": ("thread_subscriptions1",),
}
SHAPES = {
    "main only": Shape((MAIN,)),
    "generic workers": Shape((MAIN, Written("worker1"), Written("worker2"), Written("worker3"))),
    "everything apart": Shape(
        (
            MAIN_BESIDE_MEDIA,
            Written("client1", "client", media=False),
            Written("client2", "client", media=False),
            Written("federation1", "federation", media=False),
            Written("federation2", "federation", media=False),
            Written("media1", "media"),
            Written("media2", "media"),
            Written("event1", "", media=False),
            Written("event2", "", media=False),
            *(Written(name, "client", media=False) for names in {**SINGLE, **SEVERAL}.values() for name in names),
        ),
        {**SINGLE, **SEVERAL, "events": ("event1", "event2"), "quarantined_media_changes": ("media2",)},
    ),
    "persisters with clients": Shape(
        (
            MAIN_BESIDE_MEDIA,
            Written("event1", "client", media=False),
            Written("event2", "client", media=False),
            Written("event3", "", media=False),
            Written("federation1", "federation keys openid", media=False),
            Written("media1", "client federation media"),
        ),
        {"events": ("event1", "event2", "event3"), "receipts": ("event2",), "quarantined_media_changes": ("media1",)},
    ),
}

# -- configurations

OIDC = {"oidc_providers": [{"idp_id": "any"}]}
SIGN_ON: dict[str, Any] = {
    **OIDC,
    "cas_config": {"enabled": True, "server_url": "https://cas.example.org/"},
    "saml2_config": {"sp_config": {}},
    "email": {"smtp_host": "localhost"},
    "login_via_existing_session": {"enabled": True},
    "federation_whitelist_endpoint_enabled": True,
    "user_consent": {"version": "1.0"},
}
SIGN_ON_WORDS = {
    "oidc",
    "cas",
    "saml2",
    "email",
    "login_via_existing_session",
    "federation_whitelist_endpoint",
    "user_consent",
}
MAS = {"matrix_authentication_service": {"enabled": True, "endpoint": "http://localhost:9/", "secret": "s"}}
MAS_BEFORE_1_136 = {"msc3861": {"enabled": True, "issuer": "https://example.org/"}}
CONFIGURATIONS = ("default", "no_media", "sso_email_etc", "mas", "experimental", "experimental_mas")


def configured(name: str, release: str) -> tuple[dict[str, Any], frozenset[str]]:
    """Keys of homeserver.yaml, and what of `Endpoint.needs` they bring."""
    flags = set[str]()
    if "experimental" in name:
        flags = {word for row in rows_of(release) for need in row.needs for word in need.split("|") if "msc" in word}
    keys: dict[str, Any] = {"experimental_features": dict.fromkeys(sorted(flags), True)}
    words = flags | ({"mas"} if "mas" in name else {"not_mas"})
    if "mas" in name and release_of(release) < (1, 136):
        keys["experimental_features"].update(MAS_BEFORE_1_136)
    elif "mas" in name:
        keys.update(MAS)
    if name == "sso_email_etc":
        keys.update(SIGN_ON)
        words |= SIGN_ON_WORDS
    return keys, frozenset(words)


@cache
def rows_of(release: str) -> tuple[Endpoint, ...]:
    return load_endpoints(release).endpoints


def deployment_of(directory: Path, shape: Shape, name: str, release: str) -> tuple[Deployment, Shape, frozenset[str]]:
    """What the sidecar reads from the files of a homeserver; the shape as they make it, and what is configured."""
    if name == "no_media":
        shape = Shape(tuple(each.without_media() for each in shape.processes), shape.writers)
    keys, words = configured(name, release)
    workers = directory / "workers"
    workers.mkdir()
    for each in shape.processes[1:]:
        (workers / f"{each.name}.yaml").write_text(yaml.safe_dump(each.worker()))
    (directory / "homeserver.yaml").write_text(yaml.safe_dump({**shape.homeserver(), **keys}))
    (directory / "sidecar.yaml").write_text(
        "listen: 'tcp:8008'\nsynapse: {config: homeserver.yaml, workers: workers}\n"
        "access: {admin: 192.0.2.0/24, mas: 192.0.2.0/24}\n"
    )
    return read_deployment(str(directory / "sidecar.yaml"), version=release), shape, words


# -- the truth


def exists(row: Endpoint, words: frozenset[str]) -> bool:
    """Whether the configuration brings the endpoint; the media repository is each process's own matter."""
    return all(need == "media_repo" or not words.isdisjoint(need.split("|")) for need in row.needs)


def able(row: Endpoint, shape: Shape) -> set[str]:
    """Names of the processes that can answer the endpoint."""
    found = set()
    for each in shape.processes:
        if each.name != "main" and row.name in STAYS_ON_MAIN:
            continue
        resources = row.resources if each.name == "main" else row.worker_resources
        if resources & set(each.serves.split()) and (each.media or "media_repo" not in row.needs):
            found.add(each.name)
    return found & set(shape.writers.get(row.stream or "", ("main",))) if row.hard else found


def requests(row: Endpoint) -> Iterator[tuple[str, str]]:
    """Methods and paths: every alternative of every segment."""
    for segments in product(*map(fillings, row.path)):
        for method in sorted(row.methods):
            yield method, "/" + "/".join(segments)


def fillings(segment: str) -> tuple[str, ...]:
    if segment == "**":
        return "last", "some/more"
    if "|" in segment:
        return tuple(segment.strip("{}").split("|"))
    return ("!any:example.org",) if segment.startswith("{") else (segment,)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("release", RELEASES)
def test_whoever_is_chosen_serves_it_and_main_keeps_what_only_main_has(
    tmp_path: Path, release: str, shape: str, name: str
) -> None:
    """All candidates and substitutes of a request serve it; where a worker does, the first candidate is one."""
    deployment, processes, words = deployment_of(tmp_path, SHAPES[shape], name, release)
    wrong, left, counted = [], [], 0
    for row in rows_of(release):
        who = able(row, processes) if exists(row, words) else set[str]()
        for method, path in requests(row) if who else ():
            decision = asked(deployment.plan, method, path)
            counted += 1
            if not decision.candidates or not who.issuperset((*decision.candidates, *decision.fallback)):
                wrong.append((method, path, decision, who))
            elif decision.candidates[0] == "main" and who != {"main"}:
                left.append((method, path, decision, who))
    assert not wrong
    assert not left
    assert counted > 700


def test_what_stays_on_main_is_there_to_stay() -> None:
    """Every exception is an endpoint that workers mount, and that the table gives to main."""
    rows = rows_of(RELEASES[-1])
    assert STAYS_ON_MAIN.keys() == {row.name for row in rows if row.group == "main" and row.worker_resources}


def test_the_comparison_in_the_docs_is_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/comparison.md has the numbers of this table, and none of ours is wrong."""
    assert coverage.main([]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    page = (Path(coverage.__file__).parents[1] / "docs" / "comparison.md").read_text("utf-8").splitlines()
    assert printed == [line for line in page if line.startswith("|")], "python benchmarks/coverage.py has other numbers"
