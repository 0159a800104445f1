"""What cannot all be true, or leaves requests without an answer, is told with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.document import parse_document
from sidecar.synapse.contradictions import contradictions
from sidecar.synapse.topology import assemble

MAIN = "server_name: a\nreport_stats: false\n"
LISTENERS = "listeners: [{path: /tmp/m.sock, type: http, resources: [{names: [client, federation]}]}]\n"
MAP = "instance_map: {main: {path: /tmp/r.sock}, w1: {path: /tmp/w1r.sock}, w2: {path: /tmp/w2r.sock}}\n"
WHOLE = MAIN + LISTENERS + MAP


def worker(name: str, names: str = "client", more: str = "", app: str = "generic_worker") -> str:
    entry = f"{{type: http, path: /tmp/{name}.sock, resources: [{{names: [{names}]}}]}}"
    return f"worker_app: synapse.app.{app}\nworker_name: {name}\nworker_listeners: [{entry}]\n{more}"


def told(shared: str, *own: str) -> list[str]:
    topology = assemble(
        [parse_document(shared.encode(), "hs")],
        [parse_document(text.encode(), f"w{index}") for index, text in enumerate(own, 1)],
    )
    return [str(problem) for problem in (*topology.problems, *contradictions(topology))]


def only(shared: str, *own: str) -> str:
    (message,) = told(shared, *own)
    return message


def test_a_sound_homeserver_is_not_complained_about() -> None:
    """No problem is found where there is none."""
    assert told(MAIN + LISTENERS) == []
    assert (
        told(WHOLE + "stream_writers: {typing: w1, events: [w1, w2]}\n", worker("w1"), worker("w2", "replication"))
        == []
    )


@pytest.mark.parametrize(
    ("stream", "serves", "breaks"),
    [
        ("typing", "federation", "typing notifications"),
        ("to_device", "replication", "messages between devices"),
        ("receipts", "federation", "read receipts"),
        ("push_rules", "federation", "changes of push rules"),
        ("thread_subscriptions", "federation", "changes of thread subscriptions"),
        ("quarantined_media_changes", "client", "quarantining media"),
    ],
)
def test_a_hard_writer_that_cannot_be_reached(stream: str, serves: str, breaks: str) -> None:
    """A stream that only its writer can answer needs that writer to listen for requests."""
    message = only(WHOLE + f"stream_writers:\n  {stream}: w1\n", worker("w1", serves))
    assert message.startswith(f"hs:6: stream_writers.{stream}: only `w1` can answer {breaks}")
    assert "status 500" in message


@pytest.mark.parametrize("stream", ["events", "account_data", "presence", "device_lists"])
def test_a_soft_writer_needs_no_listener_for_requests(stream: str) -> None:
    """Other processes pass such requests on."""
    assert told(WHOLE + f"stream_writers: {{{stream}: w1}}\n", worker("w1", "replication")) == []


@pytest.mark.parametrize(
    ("writers", "sentence"),
    [
        (
            "{typing: w3}",
            "`w3` is missing from `instance_map`, and no worker file describes it; Synapse refuses to start",
        ),
        ("{events: [w1, w3]}", "`w3` is missing from `instance_map`"),
        (
            "{tpying: w1}",
            "stream_writers.tpying: Synapse knows no such stream and refuses to start; did you mean `typing`?",
        ),
        ("{zzz: w1}", "known are events, typing,"),
        ("{typing: [w1, w2]}", "has 2 writers, and Synapse refuses to start; write only one"),
        ("{events: [main]}", "Synapse calls its main process `master` here, and workers refuse to start; write that"),
        ("{typing: []}", "must be the name of a worker or a list of them"),
        ("{typing: 3}", "must be the name of a worker or a list of them"),
        ("[typing]", "stream_writers: must be a mapping such as `typing: worker1`"),
        ("{typing: w2}", "no worker file describes `w2`; name its file in `synapse.workers`"),
        ("{events: w2}", "warning: no worker file describes `w2`"),
    ],
)
def test_stream_writers_that_synapse_would_not_take(writers: str, sentence: str) -> None:
    """Streams and names must be known, and their number right."""
    message = only(WHOLE + f"stream_writers: {writers}\n", worker("w1"))
    assert message.startswith("hs:5: ")
    assert sentence in message


def test_a_writer_absent_from_the_instance_map_although_it_has_a_file() -> None:
    """The message does not claim that the file is missing."""
    message = only(WHOLE + "stream_writers: {events: w3}\n", worker("w3"))
    assert "`w3` is missing from `instance_map`; Synapse refuses" in message


def test_workers_need_main_in_the_instance_map() -> None:
    """Synapse's workers refuse to start without it."""
    assert "instance_map: lacks `main`" in only(MAIN + LISTENERS, worker("w1"), worker("w2"))


def test_files_of_workers_must_agree_with_the_shared_ones() -> None:
    """Streams have the same writers everywhere."""
    message = only(WHOLE, worker("w1", more="stream_writers: {typing: w1}\n"))
    assert message.startswith("w1:4: stream_writers: differs from what the main process reads")


@pytest.mark.parametrize(
    "listeners",
    [
        "",
        "listeners: []",
        "listeners: [{port: 1, type: http, x_forwarded: true, resources: [{names: [replication]}]}]",
        "listeners: [{port: 1, type: http, x_forwarded: true, resources: [{names: [federation]}]}]",
        "listeners: [{port: 1, type: metrics}]",
    ],
)
def test_a_topology_without_main(listeners: str) -> None:
    """Main must be reachable for what no worker can answer."""
    messages = told(f"{MAIN}{listeners}\n")
    assert any(
        "listeners: the main process has no reachable listener with the resource `client`" in text for text in messages
    )


def test_keys_without_which_synapse_does_not_start() -> None:
    """server_name and report_stats are needed."""
    messages = told(LISTENERS)
    assert "hs: the key `server_name` is missing" in messages[0]
    assert "hs: the key `report_stats` is missing" in messages[1]
    assert "server_name: must be a text" in only(f"server_name: 3\nreport_stats: no\n{LISTENERS}")


# -- media


def test_media_that_nobody_serves() -> None:
    """It may be meant so where another program serves media, so it is a warning."""
    message = only(WHOLE + "enable_media_repo: false\n", worker("w1"))
    assert message.startswith("hs:5: enable_media_repo: warning: no process serves media")


def test_a_media_resource_where_media_is_disabled() -> None:
    """Synapse ignores it there, or refuses to start."""
    messages = told(WHOLE + "enable_media_repo: false\n", worker("w1", "media"))
    assert any("w1:3: worker_listeners[0]: Synapse ignores the resource `media` here" in text for text in messages)
    listeners = "listeners: [{path: /tmp/a, type: http, resources: [{names: [client, federation, media]}]}]\n"
    messages = told(f"{MAIN}{listeners}enable_media_repo: false\n")
    assert any("warning: the resource `media` contradicts `enable_media_repo: false`" in text for text in messages)


def test_several_media_workers_need_one_for_background_jobs() -> None:
    """Otherwise each of them runs the jobs, or none."""
    enabled = "enable_media_repo: true\n"
    shared = WHOLE + "enable_media_repo: false\n"
    workers = (worker("w1", "media", enabled), worker("w2", "media", enabled))
    message = only(shared, *workers)
    assert "media_instance_running_background_jobs: w1 and w2 all run the background jobs" in message
    assert told(shared + "media_instance_running_background_jobs: w2\n", *workers) == []
    message = only(shared + "media_instance_running_background_jobs: w3\n", *workers)
    assert "`w3` serves no media, so no process runs the background jobs; name one of w1 and w2" in message


def test_main_counts_as_a_media_process_while_it_is_enabled() -> None:
    """A media worker beside a main process that still serves media makes two."""
    assert "main and w1 all run" in only(WHOLE, worker("w1", "media"))
    assert told(WHOLE, worker("w1", "client")) == []


def test_the_old_class_of_media_workers_enables_media() -> None:
    """`synapse.app.media_repository` serves media although the shared file disables it."""
    assert told(WHOLE + "enable_media_repo: false\n", worker("w1", "media", app="media_repository")) == []


# -- federation and old classes


def test_federation_that_nobody_serves() -> None:
    """Other servers cannot reach such a homeserver."""
    shared = MAIN + "listeners: [{path: /tmp/m, type: http, resources: [{names: [client]}]}]\n"
    assert "listeners: warning: no process serves the resource `federation`" in only(shared)


@pytest.mark.parametrize("serves", ["federation", "openid"])
def test_users_that_nobody_can_verify(serves: str) -> None:
    """Workers mount openid/userinfo but only main answers it, so main's listener needs it."""
    shared = MAIN + "listeners: [{path: /tmp/m.sock, type: http, resources: [{names: [client%s]}]}]\n" + MAP
    told_of = [text for text in told(shared % "", worker("w1", serves)) if "lacks `openid`" in text]
    assert len(told_of) == 1
    assert told_of[0].startswith("hs:3: listeners[0].resources: warning:")
    assert not any("lacks `openid`" in text for text in told(shared % ", openid", worker("w1", serves)))


@pytest.mark.parametrize(
    ("app", "serves", "lacks"),
    [
        ("federation_reader", "client", "federation"),
        ("synchrotron", "federation", "client"),
        ("media_repository", "client", "media"),
    ],
)
def test_a_worker_whose_class_says_what_it_is_for(app: str, serves: str, lacks: str) -> None:
    """The legacy classes promise a resource that the listener must have."""
    message = only(WHOLE, worker("w1", serves, app=app))
    assert message.startswith("w1:3: worker_listeners[0]: ")
    assert f"the process is a `{app}`, but its listener lacks the resource `{lacks}`" in message


# -- listeners


@pytest.mark.parametrize(
    ("listener", "sentence"),
    [
        ("{path: /tmp/a, type: http, x_forwarded: false, R}", "x_forwarded: is false on a UNIX socket: login and reg"),
        (
            "{port: 1, type: http, R}",
            "x_forwarded: warning: is not set, so every client seems to have the sidecar's address",
        ),
        ("{path: tmp/a, type: http, R}", "path: is a relative path, and only Synapse knows its directory"),
        (
            "{path: /nowhere/a, type: http, R}",
            "path: warning: the sidecar finds no directory /nowhere; is Synapse down",
        ),
        ("{path: /tmp/a, type: http, mode: 660, R}", "mode: YAML reads this as a decimal number; write `0660`"),
        (
            "{path: /tmp/a, type: http, resources: [{names: [client, federation, replication]}]}",
            "resources: warning: the listener for requests also has the resource `replication`; the sidecar never "
            "forwards to it, but whoever else",
        ),
        (
            "{port: 1, type: http, x_forwarded: true, resources: [{names: [client, federation, replication]}]}",
            "every host that reaches this one can use it",
        ),
        (
            "{path: /tmp/a, type: http, resources: [{names: [client, federation]}, {names: [media]}]}",
            "resources: `media` below replaces `client` above; write both names in one list: `names: [client, media]`",
        ),
    ],
)
def test_listeners_that_work_badly(listener: str, sentence: str) -> None:
    """What Synapse accepts, but requests suffer from."""
    text = listener.replace("R}", "resources: [{names: [client, federation]}]}")
    messages = told(f"{MAIN}listeners:\n  - {text}\n")
    assert any(message.startswith("hs:4: listeners[0].") and sentence in message for message in messages), messages


@pytest.mark.parametrize(
    ("listener", "sentence"),
    [
        ("3", "must be a mapping with `type`"),
        ("{port: 1}", "type: must be `http`, `metrics` or `manhole`"),
        ("{type: replication, port: 1}", "type: listeners of this type are gone since Synapse 1.88"),
        ("{type: http}", "port: needs either `path`, a UNIX socket, or `port`"),
        ("{type: http, port: 99999}", "a number from 1 to 65535"),
        ("{type: http, port: true}", "a number from 1 to 65535"),
        ("{type: http, port: 1, path: /a}", "has both `port` and `path`"),
        ("{type: http, path: 3}", "path: must be the path of a UNIX socket"),
        (f"{{type: http, path: /{'a' * 107}}}", "path: is longer than 107 bytes"),
        ("{type: metrics, path: /a}", "only listeners of type `http` can be UNIX sockets"),
        ("{type: http, path: /a, resources: client}", "resources: must be a list of `names: […]`"),
        ("{type: http, path: /a, resources: [client]}", "resources[0]: must be a mapping such as `names: [client, fed"),
        ("{type: http, path: /a, resources: [{names: client}]}", "must be a mapping such as"),
        (
            "{type: http, path: /a, resources: [{names: [clint]}]}",
            "`clint` is no listener resource, and Synapse refuses",
        ),
        ("{type: http, path: /a, resources: [{names: [webclient]}]}", "did you mean `client`?"),
        ("{type: http, path: /a, resources: [{names: [zzz]}]}", "known are client, consent,"),
    ],
)
def test_listeners_that_synapse_refuses(listener: str, sentence: str) -> None:
    """Faults of a listener have their line, and the listener is left out."""
    messages = told(f"{MAIN}listeners:\n  - {listener}\n")
    assert any(message.startswith("hs:4: listeners[0]") and sentence in message for message in messages), messages


def test_listeners_must_be_a_list() -> None:
    """A mapping in place of the list is told."""
    assert any("listeners: must be a list" in message for message in told(f"{MAIN}listeners: {{}}\n"))


def test_two_processes_at_one_address() -> None:
    """Only one of them gets the requests, unless they are on different hosts."""
    same = worker("w2").replace("/tmp/w2.sock", "/tmp/w1.sock")
    message = only(WHOLE, worker("w1"), same)
    assert message.startswith("w2:3: worker_listeners[0]: `w1` listens at /tmp/w1.sock too")
    assert "workers.w2.endpoint" in message


def test_resources_on_a_listener_that_gets_no_requests() -> None:
    """A process has one endpoint; what only its other listeners serve cannot be reached."""
    listeners = (
        "listeners:\n- {path: /tmp/f, type: http, resources: [{names: [federation]}]}\n"
        "- {path: /tmp/c, type: http, resources: [{names: [client]}]}\n"
    )
    messages = told(MAIN + listeners)
    assert any(
        message.startswith("hs:4: listeners[0]: warning: /tmp/f serves federation, but requests go to /tmp/c")
        for message in messages
    )


def test_listeners_that_speak_tls() -> None:
    """The sidecar does not; a process that has nothing else cannot be reached."""
    tls = "- {port: 8448, type: http, tls: true, resources: [{names: [client, federation]}]}\n"
    assert any("listeners[0]: speaks TLS" in message for message in told(f"{MAIN}listeners:\n{tls}"))
    plain = "- {port: 8008, type: http, x_forwarded: true, resources: [{names: [client, federation]}]}\n"
    assert told(f"{MAIN}listeners:\n{tls}{plain}") == []


# -- identity


def test_workers_with_one_name() -> None:
    """Names tell processes apart."""
    assert "w2:2: worker_name: is the name of w1 as well" in only(
        WHOLE, worker("w1"), worker("w1").replace("w1.s", "x.s")
    )
    assert "is the name of the main process as well" in only(WHOLE, worker("main"))
    assert "is the name of the main process as well" in only(WHOLE, worker("master"))
    nameless = "worker_app: synapse.app.generic_worker\n"
    messages = told(WHOLE, nameless, nameless)
    assert "w1: warning: `worker_name` is missing; Synapse calls the process `synapse.app.generic_worker`" in messages
    assert any("nothing but `worker_name` distinguishes it from w1" in message for message in messages)
    assert any("must be a text; put it in quotes" in message for message in told(WHOLE, worker("7")))


def test_worker_files_that_are_none() -> None:
    """A shared file among the workers' is pointed out; a wrong class is an error."""
    assert "the file describes no worker: it has no `worker_app`" in only(WHOLE, "redis: {enabled: true}\n")
    assert "worker_app: must be the class of a worker" in only(WHOLE, worker("w1", app="worker"))
    assert "worker_app: must be the class of a worker" in only(WHOLE, "worker_name: w1\n")


# -- old keys


@pytest.mark.parametrize("key", ["worker_replication_host", "worker_replication_http_port", "worker_replication_port"])
def test_removed_keys(key: str) -> None:
    """Synapse refuses them since 1.88."""
    assert f"w1:4: {key}: Synapse refuses it since 1.88" in only(WHOLE, worker("w1", more=f"{key}: 1\n"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker_main_http_uri: http://a", "has been unused since Synapse 1.73"),
        ("experimental_features: {msc3861: {enabled: true}}", "experimental_features.msc3861: warning: was removed in"),
        ("no_tls: true", "no_tls: warning: is obsolete"),
        ("max_upload_size: much", "max_upload_size: must be a size"),
        ("email: [a]", "email: must be a mapping of keys"),
    ],
)
def test_odd_keys(text: str, sentence: str) -> None:
    """Old and wrong keys are told with their line."""
    message = only(f"{MAIN}{LISTENERS}{text}\n")
    assert message.startswith("hs:4: ")
    assert sentence in message


def test_bind_port_replaces_all_listeners() -> None:
    """The oldest way to listen is still honoured by Synapse: TLS on one port, plain HTTP on another."""

    def main_of(text: str) -> Any:
        return next(iter(assemble([parse_document(f"{MAIN}{LISTENERS}{text}\n".encode(), "hs")], []).processes), None)

    assert main_of("bind_port: 8448").endpoint == "tcp:127.0.0.1:8048"
    assert main_of("bind_port: 8448\nunsecure_port: 8008\nbind_host: 10.0.0.1").endpoint == "tcp:10.0.0.1:8008"
    assert main_of("bind_port: 8448\nunsecure_port: 0") is None
    assert main_of("bind_port: true") is None
    assert "bind_port: warning: is obsolete and replaces all of `listeners`" in told(f"{MAIN}bind_port: 8448\n")[0]


def test_problems_are_placed_in_the_file_that_gave_the_key(tmp_path: Path) -> None:
    """With conf.d, the file of a fault is the one that won."""
    from sidecar.synapse.reading import read_topology

    (tmp_path / "hs.yaml").write_text(WHOLE)
    (tmp_path / "z.yaml").write_text("\nstream_writers:\n  tpying: w1\n")
    topology = read_topology([str(tmp_path / "hs.yaml"), str(tmp_path / "z.yaml")], [])
    assert f"{tmp_path}/z.yaml:3: stream_writers.tpying" in str(topology.problems[0])
