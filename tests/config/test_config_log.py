"""`log:`: what the access log can be told, and what it says of what it cannot mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.load import settle
from sidecar.config.log import Log, read_secret, unknown_endpoints
from sidecar.document import parse_document
from sidecar.errors import ConfigError
from sidecar.loading.deployment import read_deployment

WORKERS = 'workers: {main: {endpoint: "unix:/main.sock"}}\nsynapse: {version: "1.163.2"}\n'


def settled(text: str) -> Log:
    return settle(parse_document(f"{WORKERS}log: {text}\n".encode(), "/etc/sidecar.yaml")).log


def test_defaults() -> None:
    """No access log; where it is switched on it tells of everything, for people, on standard output."""
    log = settled("{}")
    assert not log.access
    assert (log.format, log.file, log.sample, log.endpoints, log.secret_file) == ("text", None, 1.0, {}, None)
    assert settled("{access: true}").access


def test_all_of_it() -> None:
    """Paths are relative to the file, numbers are numbers."""
    log = settled(
        "{access: true, format: json, file: access.log, sample: 0, endpoints: {login: all, 'sync*': none}, "
        "secret_file: secret, waiting: 1M}"
    )
    assert (log.format, log.file, log.sample) == ("json", "/etc/access.log", 0.0)
    assert (dict(log.endpoints), log.secret_file) == ({"login": "all", "sync*": "none"}, "/etc/secret")
    assert log.waiting == 1024**2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{sample: 2}", "log.sample: must be from 0 to 1, not `2`; `0.1` is every tenth"),
        ("{sample: yes}", "log.sample: must be a number from 0 to 1: write for example `0.1`"),
        ("{format: xml}", "log.format: must be `text` or `json`, not `xml`"),
        ("{endpoints: {sync: fault}}", "log.endpoints.sync: must be"),
        ("{endpoint: {}}", "log.endpoint: unknown key; did you mean `endpoints`?"),
    ],
)
def test_faults(text: str, message: str) -> None:
    """Each with its key and what to write instead."""
    with pytest.raises(ConfigError) as refused:
        settled(text)
    assert message in str(refused.value)


def test_secret(tmp_path: Path) -> None:
    """A file with enough in it; blanks and the line feed at its end are not part of the secret."""
    path = tmp_path / "secret"
    assert read_secret(Log()) is None
    log = Log(secret_file=str(path))
    with pytest.raises(ValueError, match=r"secret cannot be read: No such file or directory$"):
        read_secret(log)
    for octets in (b"", b"too short to be one"[:15], b"x" * 5000):
        path.write_bytes(octets)
        with pytest.raises(
            ValueError, match="must hold from 16 to 4096 bytes; write for example what `openssl"
        ) as refused:
            read_secret(log)
        assert not octets or octets.decode() not in str(refused.value)
    path.write_bytes(b" 0123456789abcdef\n")
    assert read_secret(log) == b"0123456789abcdef"


def test_unknown_endpoints() -> None:
    """A name or glob that matches nothing is told with the nearest name."""
    log = Log(endpoints={"sync": "all", "login*": "all", "snyc": "none", "zzz*": "none"})
    assert list(unknown_endpoints(log, {"sync", "login"})) == [
        (("log", "endpoints", "snyc"), "no endpoint has the name `snyc`; did you mean `sync`?"),
        (("log", "endpoints", "zzz*"), "no endpoint has the name `zzz*`; `matrix-sidecar routes` lists the names"),
    ]


def test_what_a_start_reads(tmp_path: Path) -> None:
    """A secret that cannot be read prevents a start; an endpoint that is not there is only told."""
    path = tmp_path / "sidecar.yaml"
    path.write_text(WORKERS + "log:\n  endpoints:\n    snyc: all\n  secret_file: secret\n")
    with pytest.raises(ConfigError, match=r"sidecar\.yaml:6: log\.secret_file: .*/secret cannot be read"):
        read_deployment(str(path))
    (tmp_path / "secret").write_text("0123456789abcdef")
    deployment = read_deployment(str(path))
    assert deployment.log_secret == b"0123456789abcdef"
    assert "0123456789abcdef" not in repr(deployment)
    assert [str(problem) for problem in deployment.problems if problem.key.startswith("log")] == [
        f"{path}:5: log.endpoints.snyc: warning: no endpoint has the name `snyc`; did you mean `sync`?"
    ]
