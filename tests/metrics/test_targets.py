"""The list of Synapse's metrics for Prometheus, from files as administrators write them."""

from __future__ import annotations

import pytest

from sidecar.document import parse_document
from sidecar.metrics.targets import is_host, targets
from sidecar.synapse.topology import Topology, assemble

HOMESERVER = """\
server_name: example.org
report_stats: false
enable_metrics: true
listeners:
  - {path: /run/synapse/main.sock, type: http, resources: [{names: [client, federation]}]}
  - {port: 9000, type: metrics}
"""
WORKERS = {
    "sync1": """\
worker_app: synapse.app.generic_worker
worker_name: sync1
worker_listeners:
  - {type: http, path: /run/synapse/sync1.sock, resources: [{names: [client]}]}
  - {type: metrics, port: 9101, bind_address: 127.0.0.1}
""",
    "both": """\
worker_app: synapse.app.generic_worker
worker_name: both
worker_listeners:
  - {type: http, port: 8085, bind_addresses: ["::1"], tls: true, resources: [{names: [client, metrics]}]}
  - {type: metrics, port: 9102, bind_addresses: ["10.0.0.5"]}
""",
    "resource": """\
worker_app: synapse.app.generic_worker
worker_name: resource
worker_listeners:
  - {type: http, port: 8086, bind_addresses: ["::1"], tls: true, resources: [{names: [client, metrics]}]}
""",
    "hidden": """\
worker_app: synapse.app.generic_worker
worker_name: hidden
worker_listeners:
  - {type: http, path: /run/synapse/hidden.sock, resources: [{names: [client, metrics]}]}
""",
    "sender": """\
worker_app: synapse.app.federation_sender
worker_name: sender
worker_listeners:
  - {type: metrics, port: 9103}
""",
}


def topology(homeserver: str = HOMESERVER, *workers: str) -> Topology:
    own = [parse_document(WORKERS[name].encode(), f"{name}.yaml") for name in workers]
    return assemble([parse_document(homeserver.encode(), "homeserver.yaml")], own)


def test_labels() -> None:
    """As in Synapse's documentation: the server, the kind of process, and a number within it; main is `master`."""
    (main, sync1, sender) = targets(topology(HOMESERVER, "sync1", "sender"))
    assert main == {
        "targets": ["127.0.0.1:9000"],
        "labels": {
            "instance": "example.org",
            "job": "master",
            "index": "1",
            "worker": "main",
            "__metrics_path__": "/_synapse/metrics",
        },
    }
    assert sync1["targets"] == ["127.0.0.1:9101"]
    assert (sync1["labels"]["job"], sync1["labels"]["index"], sync1["labels"]["worker"]) == (
        "generic_worker",
        "1",
        "sync1",
    )
    assert sender["targets"] == ["127.0.0.1:9103"]
    assert (sender["labels"]["job"], sender["labels"]["index"]) == ("federation_sender", "1")


def test_indices() -> None:
    """A process without metrics keeps its number, so that the others keep theirs when it gets some."""
    numbered = {
        group["labels"]["worker"]: group["labels"]["index"]
        for group in targets(topology(HOMESERVER, "sync1", "hidden", "both"))
    }
    assert numbered == {"main": "1", "sync1": "1", "both": "3"}


def test_a_listener_of_its_own_comes_first() -> None:
    """It answers while the reactor of the process is busy; the resource does not."""
    (_, both) = targets(topology(HOMESERVER, "both"))
    assert both["targets"] == ["10.0.0.5:9102"]
    (_, resource) = targets(topology(HOMESERVER, "resource"))
    assert resource["targets"] == ["[::1]:8086"]
    assert resource["labels"]["__scheme__"] == "https"


def test_without_enable_metrics() -> None:
    """Synapse starts no listener of this type then; only a worker's resource answers all the same."""
    off = HOMESERVER.replace("enable_metrics: true\n", "").replace("[client, federation]", "[client, metrics]")
    assert [group["labels"]["worker"] for group in targets(topology(off, "sync1", "resource", "sender"))] == [
        "resource"
    ]


def test_another_host() -> None:
    """What listens everywhere is reached under the name that Prometheus has for this host; the rest is not."""
    groups = targets(topology(HOMESERVER, "sync1"), "matrix1.example.org")
    assert [group["targets"] for group in groups] == [["matrix1.example.org:9000"], ["127.0.0.1:9101"]]
    assert targets(topology(HOMESERVER), "[2001:db8::1]")[0]["targets"] == ["[2001:db8::1]:9000"]


def test_no_files() -> None:
    """Workers that are only stated by hand have no metrics that are known."""
    assert targets(Topology()) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("matrix1.example.org", True),
        ("10.0.0.5", True),
        ("[::1]", True),
        ("::1", False),
        ("a:80", False),
        ("", False),
        ("a b", False),
        ("a/b", False),
    ],
)
def test_hosts(text: str, is_one: bool) -> None:
    """Only what can stand before a port."""
    assert is_host(text) is is_one
