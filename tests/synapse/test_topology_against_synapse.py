"""The same files, read by us and by Synapse's own configuration classes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sidecar.document import parse_document
from sidecar.errors import Severity
from sidecar.synapse.contradictions import contradictions
from sidecar.synapse.names import RESOURCES, STREAMS
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import assemble

WORKERS = ("w1", "w2")
SHARED = {
    "server_name": "example.org",
    "report_stats": False,
    "signing_key": "ed25519 a_1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "macaroon_secret_key": "m",
    "form_secret": "f",
    "trusted_key_servers": [],
    "database": {"name": "sqlite3", "args": {"database": ":memory:"}},
    "media_store_path": "/tmp",
}

PLACES = st.one_of(
    st.fixed_dictionaries({"path": st.integers(0, 10**6).map("/tmp/{}.sock".format)}),
    st.fixed_dictionaries(
        {"port": st.integers(1, 65535)},
        optional={"bind_addresses": st.lists(st.sampled_from(["::", "127.0.0.1"]), max_size=2)},
    ),
)
OPTIONS = st.fixed_dictionaries(
    {}, optional={"x_forwarded": st.booleans(), "request_id_header": st.just("X-Request-ID")}
)


def listeners(names: st.SearchStrategy[list[str]]) -> st.SearchStrategy[Any]:
    return st.tuples(PLACES, OPTIONS, names).map(
        lambda parts: {"type": "http", **parts[0], **parts[1], "resources": [{"names": parts[2]}]}
    )


INSTANCES = st.sampled_from([*WORKERS, "master", "master", "main", "absent"])
MEDIA = st.fixed_dictionaries(
    {},
    optional={
        "enable_media_repo": st.sampled_from([True, False, None, 0, "false"]),
        "max_upload_size": st.sampled_from(["1M", "100M", "1T", 30_000_000, "40000000"]),
        "media_instance_running_background_jobs": st.sampled_from([*WORKERS, "absent"]),
    },
)
HOMESERVER = st.tuples(
    MEDIA,
    st.fixed_dictionaries(
        {
            "listeners": st.lists(listeners(st.just(["client", "federation"])), min_size=1, max_size=2),
            "instance_map": st.lists(st.sampled_from(WORKERS)).map(
                lambda names: {name: {"path": f"/tmp/{name}"} for name in ("main", *names)}
            ),
        },
        optional={
            "stream_writers": st.dictionaries(
                st.sampled_from([*STREAMS, *STREAMS, "tpying"]),
                INSTANCES | st.lists(INSTANCES, min_size=1, max_size=2, unique=True),
                max_size=3,
            )
        },
    ),
).map(lambda parts: {**SHARED, **parts[0], **parts[1]})
WORKER = st.tuples(
    MEDIA,
    st.lists(listeners(st.lists(st.sampled_from(sorted(RESOURCES)), max_size=3, unique=True)), max_size=2),
    st.sampled_from(["generic_worker", "media_repository", "federation_reader"]),
).map(lambda parts: {**parts[0], "worker_listeners": parts[1], "worker_app": f"synapse.app.{parts[2]}"})


def synapse_reads(values: Mapping[str, Any], file: Path) -> Any:
    """Synapse's configuration, or None where Synapse refuses it."""
    from synapse.config._base import ConfigError
    from synapse.config.homeserver import HomeServerConfig

    file.write_text(yaml.safe_dump(dict(values)))
    try:
        return HomeServerConfig.load_config("test", ["-c", str(file)])
    except (ConfigError, TypeError):
        return None


def as_synapse_sees(process: Process) -> tuple[Any, ...]:
    found = [
        (each.socket or str(each.port), each.x_forwarded, each.request_id_header or "", sorted(each.resources))
        for each in (process.listener, *process.others)
        if each
    ]
    return process.media, process.body_limit, process.background, sorted(found)


def as_synapse_says(config: Any, is_main: bool) -> tuple[Any, ...]:
    from synapse.app._base import max_request_body_size

    media = config.media.can_load_media_repo
    found = []
    for each in config.server.listeners if is_main else config.worker.worker_listeners:
        http = each.http_options
        names = sorted({name for resource in http.resources for name in resource.names})
        place = getattr(each, "path", None) or str(each.port)
        found.append((place, http.x_forwarded, http.request_id_header or "", names))
    jobs = media and config.media.media_instance_running_background_jobs in (None, config.worker.instance_name)
    return media, max_request_body_size(config), jobs, sorted(found)


@pytest.mark.skipif(not [*distributions(name="matrix-synapse")], reason="matrix-synapse is not installed")
@settings(suppress_health_check=list(HealthCheck), max_examples=40, phases=(Phase.generate,))
@given(HOMESERVER, st.tuples(WORKER, WORKER))
def test_synapse_makes_the_same_of_the_same_files(
    tmp_path: Path, homeserver: Mapping[str, Any], own: tuple[Mapping[str, Any], ...]
) -> None:
    """Media, body limits, listeners and writers are Synapse's own, and we report an error where Synapse refuses."""
    named = [{**values, "worker_name": name} for name, values in zip(WORKERS, own, strict=True)]
    documents = [parse_document(yaml.safe_dump(dict(values)).encode(), "f") for values in (homeserver, *named)]
    topology = assemble(documents[:1], documents[1:])
    problems = (*topology.problems, *contradictions(topology))
    refused = [problem for problem in problems if problem.severity is Severity.ERROR and "refuse" in problem.message]
    seen = {process.name: process for process in (*topology.processes, *topology.silent)}
    answers = {"main": synapse_reads(homeserver, tmp_path / "f.yaml")}
    answers |= {values["worker_name"]: synapse_reads({**homeserver, **values}, tmp_path / "f.yaml") for values in named}
    assert bool(refused) == (None in answers.values()), [str(problem) for problem in problems]
    for name, config in answers.items():
        if config is None:
            continue
        assert as_synapse_sees(seen[name]) == as_synapse_says(config, name == "main")
        if not refused:
            said = {stream: getattr(config.worker.writers, stream) for stream in STREAMS}
            assert topology.writers == {
                stream: tuple("main" if writer == "master" else writer for writer in writers)
                for stream, writers in said.items()
            }
