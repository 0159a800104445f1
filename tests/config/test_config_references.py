"""Names that must mean something elsewhere, and the pages that are made from the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages.configuration import DOCS, json_schema, main, markdown

from sidecar.config.load import settle
from sidecar.config.references import check_references
from sidecar.document import parse_document
from sidecar.synapse.names import BUILT_IN_POOLS

WORKERS = {
    "main": frozenset(("client", "federation")),
    "sync1": frozenset(("client",)),
    "sync2": frozenset(("client",)),
    "fed1": frozenset(("federation",)),
    "jwt": frozenset(),
}


def told(text: str) -> list[str]:
    settings = settle(parse_document(f"synapse: {{config: /hs.yaml}}\n{text}".encode(), "/s.yaml"))
    return [str(problem).removeprefix("/s.yaml:") for problem in check_references(settings, WORKERS)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pools: {sync: {workers: [sync*], fallback: [client, main]}, initial_sync: {workers: sync2}}",
        "pools: {x: {workers: jwt, strip_prefix: /a}}\nroutes: [{path: /a/**, pool: x}]",
        "pools: {own: {workers: sync1}, other: {fallback: own}}\nroutes: [{path: /a, pool: other}]",
        "pools: {federation: {workers: [fed1, main]}}\nroutes: [{path: /a, pool: media}]",
        "workers: {sync1: {writes: [typing, events]}, sync2: {writes: [receipts, events]}}",
    ],
)
def test_what_refers_to_something_is_right(text: str) -> None:
    """Workers, globs and pools that exist are accepted."""
    assert told(text) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "pools: {sync: {workers: [sync3]}}",
            "pools.sync.workers[0]: no worker has the name `sync3`; did you mean `sync",
        ),
        ("pools: {sync: {workers: zzz}}", "known are main, sync1, sync2, fed1, jwt"),
        ("pools: {sync: {workers: x*}}", "warning: no worker matches `x*`"),
        (
            "pools: {snyc: {workers: sync1}}",
            "pools.snyc: warning: nothing sends requests to this pool; did you mean `sync`?",
        ),
        ("pools: {qqq: {workers: sync1}}", "name it in a route or a fallback, or remove it"),
        (
            "pools: {sync: {strip_prefix: /a}}",
            "pools.sync.strip_prefix: requests to Synapse are signed with their path, so the path cannot be changed;",
        ),
        (
            "pools: {x: {workers: sync1, add_prefix: /a}}\nroutes: [{path: /a, pool: x}]",
            "pools.x.add_prefix: `sync1` is a Synapse worker, whose requests are signed with their path; if it is "
            "another service, write `serves: []` under `workers.sync1`",
        ),
        (
            "pools: {x: {workers: jwt, strip_prefix: /a, fallback: main}}\nroutes: [{path: /a, pool: x}]",
            "pools.x.fallback: the pool `main` of its fallback does not change paths alike; give it the same prefixes",
        ),
        ("pools: {sync: {fallback: mian}}", "there is no pool `mian`; did you mean `main`?"),
        ("pools: {sync: {fallback: qqq}}", "describe it under `pools`"),
        ("pools: {sync: {fallback: sync}}", "a pool cannot be its own fallback"),
        ("pools: {federation: {workers: sync1}}", "`sync1` has no listener with the resource `federation`"),
        ("pools: {federation_send: {workers: 'sync1'}}", "would answer 404"),
        ("pools: {media: {workers: fed1}}", "has no listener with the resource `media`"),
        ("routes: [{path: /a, pool: bridge}]", "routes[0].pool: there is no pool `bridge`"),
        (
            "workers: {fed1: {writes: [events, typing]}}",
            "workers.fed1.writes: requests for `typing` fail anywhere else",
        ),
        ("workers: {sync3: {weight: 2}}", "workers.sync3: Synapse's files give no worker of this name a listener"),
        (
            "workers: {sync1: {writes: typing}, sync2: {writes: typing}}",
            "workers.sync2.writes: `typing` has one writer",
        ),
    ],
)
def test_what_refers_to_nothing_is_told(text: str, sentence: str) -> None:
    """A name that means nothing is told with the nearest one that does."""
    (message,) = told(text)
    assert message.startswith("2: ")
    assert sentence in message


def test_built_in_pools_are_those_of_the_contract() -> None:
    """Eleven pools by task, and one for each stream."""
    assert len(set(BUILT_IN_POOLS)) == 21


def test_the_reference_is_current(tmp_path: Path) -> None:
    """docs/configuration.md and docs/sidecar.schema.json are what the schema says; else run the tool again."""
    main(tmp_path)
    for name, text in (("configuration.md", markdown()), ("sidecar.schema.json", json_schema())):
        assert (tmp_path / name).read_text() == text
        assert (DOCS / name).read_text() == text, "run `PYTHONPATH=tests python -m pages.configuration`"


def test_the_reference_shows_values_as_people_write_them() -> None:
    """Defaults have units, choices are listed."""
    text = markdown()
    assert "| `answer` | duration | `15m` |" in text
    assert "| `request_body` | size | `50M` |" in text
    assert "| `trust` | list: network | `127.0.0.0/8`, `::1` |" in text
    assert "| `proto` | `http`, `https` |" in text
    assert "| `to` | URL | required |" in text
    assert "\n## `compress`\n" in text, "one section, which has no name of its own"


def test_the_schema_for_editors_refuses_unknown_keys() -> None:
    """Every section is closed, and needed keys are marked."""
    schema = json.loads(json_schema())
    assert schema["additionalProperties"] is False
    assert schema["properties"]["workers"]["additionalProperties"]["additionalProperties"] is False
    assert schema["properties"]["routes"]["items"]["properties"]["redirect"]["required"] == ["to"]
    assert {"type": "null"} in schema["properties"]["routes"]["items"]["properties"]["query"]["additionalProperties"][
        "anyOf"
    ]
