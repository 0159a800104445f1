"""The topology is what Synapse itself would make of the same files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.document import Document, parse_document
from sidecar.errors import Problem, Severity
from sidecar.synapse.files import find_files, merge, read_files
from sidecar.synapse.names import STREAMS
from sidecar.synapse.processes import BODY_LIMIT, UPLOAD_LIMIT, Process
from sidecar.synapse.reading import read_topology
from sidecar.synapse.topology import Topology, assemble, state_workers

HOMESERVER = """\
server_name: example.org
report_stats: false
enable_media_repo: false
listeners:
  - port: 8008
    type: http
    x_forwarded: true
    bind_addresses: ["::1", "127.0.0.1"]
    resources:
      - names: [client, federation]
        compress: false
  - path: /run/matrix-synapse/replication.sock
    type: http
    resources: [{names: [replication]}]
  - {port: 9000, type: metrics}
instance_map:
  main: {path: /run/matrix-synapse/replication.sock}
  writer1: {path: /run/matrix-synapse/writer1r.sock}
  event1: {path: /run/matrix-synapse/event1.sock}
  event2: {path: /run/matrix-synapse/event2.sock}
stream_writers:
  typing: writer1
  receipts: [writer1]
  events: [event2, event1]
  presence: master
media_instance_running_background_jobs: media1
update_user_directory_from_worker: writer1
"""
WORKERS = {
    "writer1": """\
worker_app: synapse.app.generic_worker
worker_name: writer1
worker_listeners:
  - {type: http, path: /run/matrix-synapse/writer1.sock, resources: [{names: [client]}]}
  - {type: http, path: /run/matrix-synapse/writer1r.sock, resources: [{names: [replication]}]}
""",
    "media1": """\
worker_app: synapse.app.generic_worker
worker_name: media1
enable_media_repo: true
max_upload_size: 100M
worker_listeners:
  - {type: http, port: 8085, request_id_header: X-Request-ID, resources: [{names: [media]}], x_forwarded: true}
""",
    "event1": """\
worker_app: synapse.app.generic_worker
worker_name: event1
worker_listeners:
  - {type: http, path: /run/matrix-synapse/event1.sock, resources: [{names: [replication]}]}
""",
    "event2": "worker_app: synapse.app.generic_worker\nworker_name: event2\n",
}


def write(directory: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


@pytest.fixture
def synapse(tmp_path: Path) -> str:
    files = {f"workers/{name}.yaml": text for name, text in WORKERS.items()}
    return write(tmp_path, {"homeserver.yaml": HOMESERVER, **files})


def topology_of(directory: str, **stated: Any) -> Topology:
    return read_topology([f"{directory}/homeserver.yaml"], [f"{directory}/workers"], stated)


def by_name(topology: Topology) -> dict[str, Process]:
    return {process.name: process for process in (*topology.processes, *topology.silent)}


@frozen
class Stated:
    endpoint: str | None = None
    serves: tuple[str, ...] | None = None
    writes: tuple[str, ...] | None = None


def errors(topology: Topology) -> list[Problem]:
    return [problem for problem in topology.problems if problem.severity is Severity.ERROR]


# -- a whole homeserver


def test_processes_and_where_they_listen(synapse: str) -> None:
    """Each process has the endpoint of its listener for requests; those without one are kept apart."""
    topology = topology_of(synapse)
    assert [(process.name, process.endpoint) for process in topology.processes] == [
        ("main", "tcp:127.0.0.1:8008"),
        ("media1", "tcp:127.0.0.1:8085"),
        ("writer1", "unix:/run/matrix-synapse/writer1.sock"),
    ]
    assert [process.name for process in topology.silent] == ["event1", "event2"]
    assert errors(topology) == []
    assert topology.known
    assert topology.server_name == "example.org"


def test_what_each_process_serves_and_writes(synapse: str) -> None:
    """Resources come from the chosen listener, streams from `stream_writers`, the rest is main's."""
    found = by_name(topology_of(synapse))
    assert found["main"].serves == {"client", "federation"}
    assert found["media1"].serves == {"media"}
    assert found["writer1"].writes == {"typing", "receipts"}
    assert found["event1"].writes == found["event2"].writes == {"events"}
    assert found["main"].writes == set(STREAMS) - {"typing", "receipts", "events"}
    assert found["main"].is_main
    assert not found["writer1"].is_main


def test_writers_keep_their_order(synapse: str) -> None:
    """The order of event persisters decides which of them owns a room."""
    topology = topology_of(synapse)
    assert topology.writers["events"] == ("event2", "event1")
    assert topology.writers["presence"] == topology.writers["to_device"] == ("main",)


def test_media_and_limits_are_those_of_each_process(synapse: str) -> None:
    """Each process sees its own file over the shared ones."""
    found = by_name(topology_of(synapse))
    assert (found["main"].media, found["main"].body_limit) == (False, BODY_LIMIT)
    assert (found["media1"].media, found["media1"].body_limit) == (True, 100 * 2**20)
    assert found["media1"].background
    assert not found["writer1"].background
    assert found["media1"].request_id_header == "X-Request-ID"
    assert topology_of(synapse).max_upload_size == UPLOAD_LIMIT


def test_every_file_that_was_read_is_known(synapse: str) -> None:
    """A reload can watch them."""
    names = [os.path.relpath(file, synapse) for file in topology_of(synapse).files]
    assert names == ["homeserver.yaml", *(f"workers/{name}.yaml" for name in sorted(WORKERS))]


@pytest.mark.parametrize(
    ("key", "scheme"),
    [
        ("", "https"),
        ("public_baseurl: https://matrix.example.org/", "https"),
        ("public_baseurl: HTTP://localhost:8008", "http"),
        ("public_baseurl: 3", "https"),
    ],
)
def test_the_scheme_that_clients_are_meant_to_use(tmp_path: Path, key: str, scheme: str) -> None:
    """Synapse takes https for granted where nothing is said; without its files nothing is known."""
    directory = write(tmp_path, {"hs.yaml": f"server_name: a\nreport_stats: true\n{key}\n"})
    assert read_topology([f"{directory}/hs.yaml"], []).public_scheme == scheme
    assert Topology().public_scheme == ""


def test_main_only(tmp_path: Path) -> None:
    """A homeserver without workers is a topology too."""
    listener = "[{path: /s/a.sock, type: http, resources: [{names: [client, federation]}]}]"
    directory = write(tmp_path, {"hs.yaml": f"server_name: a\nreport_stats: true\nlisteners: {listener}\n"})
    topology = read_topology([f"{directory}/hs.yaml"], [])
    (main,) = topology.processes
    assert (main.endpoint, main.media, main.background, main.body_limit) == ("unix:/s/a.sock", True, True, UPLOAD_LIMIT)
    assert errors(topology) == []


def test_nothing_read_is_an_empty_topology() -> None:
    """Without files nothing is known, and nothing is complained about."""
    topology = read_topology([], [])
    assert (topology.processes, topology.known, topology.problems) == ((), False, ())


# -- merging

KEYS = st.sampled_from(["a", "b", "c", "stream_writers"])
FILES = st.lists(
    st.none() | st.integers() | st.dictionaries(KEYS, st.integers() | st.dictionaries(KEYS, st.integers())), max_size=4
)


@given(FILES)
def test_files_are_merged_as_synapse_merges_them(contents: list[Any]) -> None:
    """Later files replace whole top-level keys; what is no mapping is left out; each key knows its file."""
    documents = [parse_document(yaml.safe_dump(content).encode(), str(index)) for index, content in enumerate(contents)]
    merged = merge(documents)
    model: dict[Any, Any] = {}
    for content in contents:
        if isinstance(content, dict):
            model.update(content)
    assert merged.values == model
    for key in model:
        last = max(index for index, content in enumerate(contents) if isinstance(content, dict) and key in content)
        assert merged.origins[key].file == str(last)


def test_directories_are_read_as_synapse_reads_them(tmp_path: Path) -> None:
    """All `*.yaml` of a directory, sorted, without its subdirectories."""
    names = ["b.yaml", "a.yaml", "10.yaml", "9.yaml", "c.yml", "d.yaml.bak", "sub.yaml/e.yaml", ".hidden.yaml"]
    directory = write(tmp_path, dict.fromkeys(names, "x: 1\n"))
    files, problems = find_files([f"{directory}/b.yaml", directory, "/absent.yaml"])
    assert [os.path.basename(file) for file in files] == [
        "b.yaml",
        ".hidden.yaml",
        "10.yaml",
        "9.yaml",
        "a.yaml",
        "b.yaml",
        "absent.yaml",
    ]
    (problem,) = problems
    assert problem.file.endswith("c.yml")
    assert "rename it" in problem.message


def test_odd_files_are_told(tmp_path: Path) -> None:
    """An empty directory, an empty file, a repeated key and an absent file are problems, not crashes."""
    directory = write(tmp_path, {"empty.yaml": "", "list.yaml": "[1]", "twice.yaml": "a: 1\na: 2\n"})
    (tmp_path / "none").mkdir()
    assert "no file `*.yaml`" in find_files([f"{directory}/none"])[1][0].message
    files = [f"{directory}/{name}.yaml" for name in ("empty", "list", "twice", "absent", "twice")]
    documents, problems = read_files(files)
    assert len(documents) == 4
    assert [(os.path.basename(problem.file), problem.severity.value) for problem in problems] == [
        ("twice.yaml", "warning"),
        ("absent.yaml", "error"),
        ("empty.yaml", "warning"),
        ("list.yaml", "warning"),
    ]


def test_a_homeserver_without_workers_may_lack_their_directory(tmp_path: Path) -> None:
    """The three lines suit a homeserver without workers: that there are none is no error."""
    directory = write(tmp_path, {"homeserver.yaml": HOMESERVER})
    (tmp_path / "none").mkdir()
    files, (problem,) = find_files([f"{directory}/none", f"{directory}/absent", "/absent.yaml"], may_lack=True)
    assert files == ["/absent.yaml"]
    assert (problem.severity, problem.message) == (Severity.WARNING, "does not exist, so that it describes no worker")


def test_a_directory_that_cannot_be_listed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, so the refusal is made up."""

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    files, (problem,) = find_files([str(tmp_path)])
    assert files == []
    assert "cannot be listed: Permission denied" in problem.message


def test_conf_d_overrides_and_a_worker_file_overrides_that(tmp_path: Path) -> None:
    """The order is shared files, then conf.d, then the worker's own file."""
    directory = write(
        tmp_path,
        {
            "homeserver.yaml": HOMESERVER
            + "max_upload_size: 1M\nenable_media_repo: true\n".replace("enable", "x_enable"),
            "conf.d/a.yaml": "max_upload_size: 20M\n",
            "conf.d/b.yaml": "stream_writers: {typing: writer1}\n",
            "w/media1.yaml": WORKERS["media1"],
            "w/writer1.yaml": WORKERS["writer1"] + "enable_media_repo: true\n",
        },
    )
    topology = read_topology([f"{directory}/homeserver.yaml", f"{directory}/conf.d"], [f"{directory}/w"])
    found = by_name(topology)
    assert topology.max_upload_size == 20 * 2**20
    assert found["writer1"].body_limit == 20 * 2**20
    assert found["media1"].body_limit == 100 * 2**20
    assert topology.writers["events"] == ("main",), "conf.d replaces the whole of stream_writers"


def test_a_file_of_main_among_the_workers_belongs_to_main(tmp_path: Path) -> None:
    """synctl gives main a file of its own with `worker_app: synapse.app.homeserver`; others do not see it."""
    own = "worker_app: synapse.app.homeserver\nmax_upload_size: 7M\n"
    directory = write(
        tmp_path, {"homeserver.yaml": HOMESERVER, "w/main.yaml": own, "w/writer1.yaml": WORKERS["writer1"]}
    )
    topology = read_topology([f"{directory}/homeserver.yaml"], [f"{directory}/w"])
    assert [process.name for process in topology.processes] == ["main", "writer1"]
    assert topology.max_upload_size == 7 * 2**20


def test_a_shared_file_among_the_workers_is_read_once(synapse: str) -> None:
    """A file that both lists name is shared; it is no worker."""
    topology = read_topology([f"{synapse}/homeserver.yaml"], [synapse, f"{synapse}/workers"])
    assert len(topology.processes) == 3


@pytest.mark.parametrize(
    ("keys", "endpoint"),
    [
        ("path: /a.sock, port: null", "unix:/a.sock"),
        ("path: '/a:b=c.sock'", r"unix:/a\:b\=c.sock"),
        ("port: 1", "tcp:127.0.0.1:1"),
        ("port: 1, bind_addresses: ['::']", r"tcp:\:\:1:1"),
        ("port: 1, bind_addresses: ['0.0.0.0']", "tcp:127.0.0.1:1"),
        ("port: 1, bind_addresses: ''", "tcp:127.0.0.1:1"),
        ("port: 1, bind_address: 10.0.0.1", "tcp:10.0.0.1:1"),
        ("port: 1, bind_addresses: [10.0.0.1], bind_address: '::1'", r"tcp:\:\:1:1"),
        ("port: 1, bind_addresses: [10.0.0.2, 10.0.0.1]", "tcp:10.0.0.2:1"),
    ],
)
def test_the_address_by_which_a_listener_is_reached(keys: str, endpoint: str) -> None:
    """A UNIX socket by its path; a port by the loopback address if it listens there, else by its first address."""
    text = f"listeners: [{{type: http, {keys}, resources: [{{names: [client]}}]}}]"
    (main,) = assemble([parse_document(text.encode(), "f")], []).processes
    assert main.endpoint == endpoint


@pytest.mark.parametrize(
    ("listeners", "chosen"),
    [
        ([("a", "client"), ("b", "client, federation")], "b"),
        ([("a", "federation, keys, openid"), ("b", "client")], "b"),
        ([("a", "client, replication"), ("b", "client")], "b"),
        ([("a", "client"), ("b", "client")], "a"),
        ([("1", "client"), ("b", "client")], "b"),
        ([("1", "client, media"), ("b", "client")], "1"),
        ([("a", "replication"), ("b", "health")], None),
    ],
)
def test_which_listener_takes_requests(listeners: list[tuple[str, str]], chosen: str | None) -> None:
    """The one that serves the most; then a UNIX socket, then one without replication, then the first."""
    entries = ", ".join(
        f"{{type: http, {'port' if name.isdigit() else 'path'}: {name}, resources: [{{names: [{names}]}}]}}"
        for name, names in listeners
    )
    processes = assemble([parse_document(f"listeners: [{entries}]".encode(), "f")], []).processes
    assert [process.listener.place.removeprefix("port ") for process in processes] == ([chosen] if chosen else [])


@pytest.mark.parametrize(
    ("written", "limit"),
    [("60M", 60 << 20), ("1", BODY_LIMIT), ("70000000", 70_000_000), ("2G", 2 << 30), ("'80000000'", 80_000_000)],
)
def test_body_limits_follow_max_upload_size(written: str, limit: int) -> None:
    """Synapse cuts a connection at the larger of 12.5 MiB and the upload limit."""
    topology = assemble([parse_document(f"max_upload_size: {written}".encode(), "f")], [])
    assert topology.silent[0].body_limit == limit


# -- features


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("", "not_mas", "mas email oidc"),
        ("matrix_authentication_service: {enabled: true, secret: s}", "mas", "not_mas"),
        ("matrix_authentication_service: {enabled: false}", "not_mas", "mas"),
        ("experimental_features: {msc3861: {enabled: true, issuer: a}}", "mas", "not_mas"),
        ("experimental_features: {msc3861: {enabled: false, issuer: a}}", "not_mas", "mas"),
        ("experimental_features: {msc3861: true}", "not_mas", "mas"),
        ("oidc_providers: [{idp_id: a}]", "oidc", "cas saml2"),
        ("oidc_config: {enabled: true}", "oidc", "cas"),
        ("oidc_config: {issuer: a}", "not_mas", "oidc"),
        ("cas_config: {server_url: a}", "cas", "oidc"),
        ("cas_config: {enabled: false, server_url: a}", "not_mas", "cas"),
        ("saml2_config: {sp_config: {}}", "saml2", "cas"),
        ("email: {smtp_host: a}", "email", "mas"),
        ("email: {}", "not_mas", "email"),
        ("user_consent: {version: '1'}", "user_consent", "email"),
        ("login_via_existing_session: {enabled: true}", "login_via_existing_session", "email"),
        ("federation_whitelist_endpoint_enabled: true", "federation_whitelist_endpoint", "email"),
        ("experimental_features: {msc4306_enabled: true, msc4388_mode: open}", "msc4306_enabled msc4388_mode", "email"),
        (
            "experimental_features: {msc4306_enabled: false, msc4388_mode: 'off'}",
            "not_mas",
            "msc4306_enabled msc4388_mode",
        ),
    ],
)
def test_features_say_which_endpoints_exist(text: str, present: str, absent: str) -> None:
    """What is configured is told in the words of the endpoint table."""
    topology = assemble([parse_document(text.encode(), "f")], [])
    assert set(present.split()) <= topology.features
    assert topology.features.isdisjoint(absent.split())


# -- application services


def test_tokens_of_application_services(tmp_path: Path) -> None:
    """Each token leads to the user id of its sender; relative files are seen from the file that names them."""
    registration = "id: {0}\nas_token: {1}\nhs_token: h\nsender_localpart: {0}\nurl: null\nnamespaces: {{}}\n"
    directory = write(
        tmp_path,
        {
            "homeserver.yaml": f"{HOMESERVER}app_service_config_files: [as/irc.yaml, {tmp_path}/as/wa.yaml]\n",
            "as/irc.yaml": registration.format("irc", "secret1"),
            "as/wa.yaml": registration.format("wa", "secret2"),
        },
    )
    topology = read_topology([f"{directory}/homeserver.yaml"], [])
    assert topology.appservices == {"secret1": "@irc:example.org", "secret2": "@wa:example.org"}
    assert f"{directory}/as/irc.yaml" in topology.files
    assert "secret1" not in repr(topology)
    assert any("is relative, and seen from this file" in problem.message for problem in topology.problems)


def test_faulty_application_services_are_sentences_without_secrets(tmp_path: Path) -> None:
    """No fault of a registration shows a token."""
    here = tmp_path
    directory = write(
        tmp_path,
        {
            "homeserver.yaml": f"app_service_config_files: [{here}/a.yaml, {here}/b.yaml, {here}/c.yaml, /no]\n",
            "a.yaml": "as_token: hunter2\nsender_localpart: a\n",
            "b.yaml": "as_token: hunter2\nsender_localpart: b\n",
            "c.yaml": "as_token: 7\n",
        },
    )
    topology = read_topology([f"{directory}/homeserver.yaml"], [])
    told = [str(problem) for problem in topology.problems]
    assert topology.appservices == {"hunter2": "@a:"}
    assert any("is the token of another application service too" in text for text in told)
    assert sum("is missing or no text" in text for text in told) == 2
    assert any(text.startswith("/no: the file does not exist") for text in told)
    assert not any("hunter2" in text for text in told)
    (tmp_path / "homeserver.yaml").write_text("app_service_config_files: a.yaml\n")
    assert "must be a list of files" in str(read_topology([f"{directory}/homeserver.yaml"], []).problems)


# -- workers stated by hand


def test_stated_workers_add_and_override(synapse: str) -> None:
    """What `sidecar.yaml` says of a worker wins, what it does not say stays."""
    topology = topology_of(
        synapse,
        media1=Stated(endpoint="tcp:10.0.0.5:8085"),
        writer1=Stated(),
        event1=Stated(endpoint="unix:/run/event1.sock", serves=("client",)),
        extra=Stated(endpoint="unix:/run/extra.sock", serves=("client",), writes=("to_device",)),
    )
    found = by_name(topology)
    assert (found["media1"].endpoint, found["media1"].serves) == ("tcp:10.0.0.5:8085", frozenset({"media"}))
    assert found["writer1"].endpoint == "unix:/run/matrix-synapse/writer1.sock"
    assert found["event1"] in topology.processes
    assert found["event1"].writes == {"events"}
    assert found["extra"].writes == {"to_device"}
    assert topology.writers["to_device"] == ("extra",)
    assert "to_device" not in found["main"].writes
    assert found["extra"].features == topology.features


@pytest.mark.parametrize(
    ("read", "stated", "writers"),
    [
        (("main",), {"a": ("events",)}, ("a",)),
        (("main",), {"a": ("events",), "b": ("events",)}, ("a", "b")),
        (("main",), {"main": ("events",), "a": ("events",)}, ("main", "a")),
        (("b", "c"), {"a": ("events",)}, ("b", "c", "a")),
        (("b", "c"), {"b": ()}, ("c",)),
        (("b",), {"b": ()}, ("main",)),
        (("b", "c"), {"c": ("events",)}, ("b", "c")),
        (("b",), {"a": None}, ("b",)),
    ],
)
def test_stated_writers(read: tuple[str, ...], stated: Mapping[str, Any], writers: tuple[str, ...]) -> None:
    """A worker that says what it writes joins or leaves the writers; main writes what nobody else does."""
    topology = Topology(writers={**dict.fromkeys(STREAMS, ("main",)), "events": read})
    workers = {name: Stated("unix:/a", writes=writes) for name, writes in stated.items()}
    for process in state_workers(topology, workers).processes:
        assert ("events" in process.writes) == (process.name in writers)
    assert read_topology([], [], workers).known is False
    assert state_workers(topology, workers).writers["events"] == writers


def test_a_stated_writer_replaces_the_one_of_a_stream_that_has_only_one() -> None:
    """Synapse takes one writer of `typing`; the one stated by hand wins over the one read."""
    topology = Topology(writers={**dict.fromkeys(STREAMS, ("main",)), "typing": ("b",)})
    (process,) = state_workers(topology, {"a": Stated("unix:/a", ("client",), ("typing",))}).processes
    assert process.writes == {"typing"}


def test_workers_stated_alone_serve_all_that_their_kind_can() -> None:
    """Without Synapse's files, and without `serves`, nothing is held against a worker."""
    main, worker = state_workers(Topology(), {"main": Stated("unix:/m"), "a": Stated("unix:/a")}).processes
    assert {"client", "federation", "media", "static"} <= main.serves
    assert {"client", "federation", "media"} <= worker.serves
    assert "static" not in worker.serves
    assert main.body_limit is None


# -- totality

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=4,
)
RESOURCES = st.lists(
    st.sampled_from(["client", "media", "federation", "openid", "replication", "x"]) | ANYTHING, max_size=3
)
LISTENER = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["http", "metrics", "manhole", "replication"]) | ANYTHING,
        "port": st.integers(0, 70000) | ANYTHING,
        "path": st.sampled_from(["/a.sock", "a.sock", "a" * 200]) | ANYTHING,
        "tls": ANYTHING,
        "mode": st.sampled_from([660, 438]) | ANYTHING,
        "x_forwarded": st.booleans() | ANYTHING,
        "bind_addresses": st.lists(st.sampled_from(["::", "10.0.0.1"]), max_size=2) | ANYTHING,
        "bind_address": st.just("0.0.0.0") | ANYTHING,
        "request_id_header": ANYTHING,
        "resources": st.lists(st.fixed_dictionaries({"names": RESOURCES}) | ANYTHING, max_size=3) | ANYTHING,
    },
)
NAMES = st.sampled_from(["w1", "w2", "main", "master"])
CONFIGURATION = st.fixed_dictionaries(
    {},
    optional={
        "server_name": st.just("a") | ANYTHING,
        "listeners": st.lists(LISTENER | ANYTHING, max_size=3) | ANYTHING,
        "worker_listeners": st.lists(LISTENER | ANYTHING, max_size=3) | ANYTHING,
        "worker_app": st.sampled_from(["synapse.app.generic_worker", "synapse.app.homeserver"]) | ANYTHING,
        "worker_name": NAMES | ANYTHING,
        "stream_writers": st.dictionaries(
            st.sampled_from([*STREAMS, "tpying"]) | st.integers(),
            NAMES | st.lists(NAMES | ANYTHING, max_size=3) | ANYTHING,
        )
        | ANYTHING,
        "instance_map": st.dictionaries(NAMES, ANYTHING) | ANYTHING,
        "media_instance_running_background_jobs": NAMES | ANYTHING,
        "enable_media_repo": st.booleans() | ANYTHING,
        "max_upload_size": st.sampled_from(["1M", "", "M", "x"]) | ANYTHING,
        "bind_port": st.integers(0, 70000) | ANYTHING,
        "unsecure_port": ANYTHING,
        "bind_host": ANYTHING,
        "no_tls": ANYTHING,
        "experimental_features": ANYTHING,
        "email": ANYTHING,
        "oidc_config": ANYTHING,
        "cas_config": ANYTHING,
        "matrix_authentication_service": ANYTHING,
        "worker_main_http_uri": ANYTHING,
        "worker_replication_host": ANYTHING,
    },
)


@given(st.lists(CONFIGURATION | ANYTHING, max_size=2), st.lists(CONFIGURATION | ANYTHING, max_size=3))
@example([{"listeners": [{"type": [], "port": 1}]}], [])
def test_any_files_are_a_topology(shared: list[Any], own: list[Any]) -> None:
    """Whatever Synapse's files hold, the answer is a topology whose problems can be printed."""
    from sidecar.synapse.contradictions import contradictions

    documents = [Document(f"s{index}", value) for index, value in enumerate(shared)]
    workers = [Document(f"w{index}", value) for index, value in enumerate(own)]
    topology = assemble(documents, workers)
    problems = [*topology.problems, *contradictions(topology)]
    assert all(str(problem) for problem in problems)
    names = [process.name for process in (*topology.processes, *topology.silent)]
    assert len(set(names)) == len(names)
    assert "main" in names
    assert all(process.endpoint and process.serves for process in topology.processes)
    assert set(topology.writers) == set(STREAMS)


@given(st.binary(max_size=40))
@example(b"a: [")
@example(b"app_service_config_files: [0]")
def test_any_octets_are_a_topology(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Files that are no YAML at all are problems too."""
    directory = tmp_path_factory.mktemp("s")
    (directory / "a.yaml").write_bytes(content)
    (directory / "b.yaml").write_bytes(b"worker_app: synapse.app.generic_worker\n" + content)
    topology = read_topology([str(directory / "a.yaml")], [str(directory / "b.yaml")])
    assert topology.problems
