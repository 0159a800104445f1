"""Keys and certificates as files hold them: what is taken, and the sentences about what is not."""

from __future__ import annotations

import builtins
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pem import Authority, pem_of
from processes import environment

from sidecar.config.endpoint_strings import KeyFiles
from sidecar.config.load import settle
from sidecar.document import parse_document
from sidecar.entrance.certificates import INSTALL, certificate_problems, read_credentials
from sidecar.errors import Severity, SidecarError

AUTHORITY = Authority()
BETWEEN = Authority("Between", AUTHORITY)
KEY, CERTIFICATE = BETWEEN.issue("matrix.example.org")
OTHER_KEY, OTHER_CERTIFICATE = AUTHORITY.issue("other.example.org")
NOW = datetime.now(timezone.utc)


def written(directory: Path, **contents: bytes) -> KeyFiles:
    """Files with these contents; what is not given is not there."""
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return KeyFiles(str(directory / "key"), str(directory / "certificate"), str(directory / "chain"))


@pytest.mark.parametrize(
    "contents",
    [
        {"key": KEY, "certificate": CERTIFICATE, "chain": BETWEEN.certificate},
        {"key": KEY, "certificate": CERTIFICATE + BETWEEN.certificate, "chain": BETWEEN.certificate},
        {"key": KEY, "certificate": b"subject=CN = x\n" + CERTIFICATE, "chain": BETWEEN.certificate + CERTIFICATE},
    ],
)
def test_a_chain_from_one_file_or_two(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Every certificate once, that of the key first."""
    credentials = read_credentials(written(tmp_path, **contents))
    assert [each.subject.rfc4514_string() for each in credentials.chain] == ["CN=matrix.example.org", "CN=Between"]
    assert credentials.expires < NOW + timedelta(days=91)
    assert credentials.identity == read_credentials(written(tmp_path)).identity


def test_one_file_for_both(tmp_path: Path) -> None:
    """A key and its certificates can lie in one file, as HAProxy has it."""
    (tmp_path / "both").write_bytes(CERTIFICATE + KEY + BETWEEN.certificate)
    both = str(tmp_path / "both")
    assert len(read_credentials(KeyFiles(both, both)).chain) == 2


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ({}, "key does not exist; give a PEM file"),
        ({"key": KEY}, "certificate does not exist; give a PEM file"),
        ({"key": CERTIFICATE}, "key: it holds no private key in PEM"),
        ({"key": pem_of(ec.generate_private_key(ec.SECP256R1()), "x")}, "key: the key is encrypted"),
        ({"key": b"\xff" * 100}, "key: it holds no private key in PEM"),
        ({"key": b" " * (1 << 20) + KEY}, "key: it is larger than 1 MiB"),
        ({"key": KEY, "certificate": KEY}, "certificate: it holds no certificate in PEM"),
        ({"key": KEY, "certificate": b""}, "certificate: it holds no certificate in PEM"),
        (
            {"key": KEY, "certificate": CERTIFICATE.replace(b"M", b"N"), "chain": b""},
            "certificate: it holds no certificate in PEM",
        ),
        (
            {"key": KEY, "certificate": OTHER_CERTIFICATE, "chain": BETWEEN.certificate},
            "certificate: the first certificate is not that of the key; give the certificate that belongs to",
        ),
        (
            {"key": KEY, "certificate": BETWEEN.certificate, "chain": CERTIFICATE},
            "certificate: the first certificate is not that of the key; put its own certificate first",
        ),
    ],
)
def test_a_fault_is_a_sentence(contents: dict[str, bytes], sentence: str, tmp_path: Path) -> None:
    """Which file, what is wrong with it, and what to do."""
    with pytest.raises(SidecarError) as caught:
        read_credentials(written(tmp_path, **contents))
    assert str(caught.value).startswith(f"{tmp_path}/{sentence}")


def test_without_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed them is told how."""
    importing = builtins.__import__

    def refuse(name: str, *others: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return importing(name, *others)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SidecarError) as caught:
        read_credentials(written(tmp_path))
    assert str(caught.value) == INSTALL


@pytest.mark.parametrize(
    ("days", "sentence"), [(30, None), (3, "the certificate expires on"), (-1, "the certificate has expired on")]
)
def test_a_certificate_that_expires(days: float, sentence: str | None, tmp_path: Path) -> None:
    """Told in time, with the line of `listen`, as a warning: it is of use to somebody perhaps."""
    key, certificate = AUTHORITY.issue("matrix.example.org", days=days)
    written(tmp_path, key=key, certificate=certificate)
    (tmp_path / "key").chmod(0o600)
    text = 'listen:\n- tcp:1\n- "ssl:2:privateKey=key:certKey=certificate"\nworkers: {main: {endpoint: "unix:/m"}}\n'
    settings = settle(parse_document(text.encode(), f"{tmp_path}/sidecar.yaml"))
    told = [str(problem) for problem in certificate_problems(settings, NOW)]
    assert len(told) == (sentence is not None)
    if sentence is not None:
        assert told[0].startswith(f"{tmp_path}/sidecar.yaml:3: listen[1]: warning: {tmp_path}/certificate: {sentence}")


def test_a_key_that_everybody_may_read(tmp_path: Path) -> None:
    """It is used, and told with what to write."""
    key, certificate = AUTHORITY.issue("matrix.example.org")
    written(tmp_path, key=key, certificate=certificate)
    text = 'listen: "ssl:2:privateKey=key:certKey=certificate"\nworkers: {main: {endpoint: "unix:/m"}}\n'
    settings = settle(parse_document(text.encode(), f"{tmp_path}/sidecar.yaml"))
    (tmp_path / "key").chmod(0o640)
    assert not list(certificate_problems(settings, NOW))
    (tmp_path / "key").chmod(0o644)
    (problem,) = certificate_problems(settings, NOW)
    said = f"{tmp_path}/key: everybody on this host may read the private key; write `chmod o-r {tmp_path}/key`"
    assert (problem.message, problem.severity) == (said, Severity.WARNING)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """They are told with the lines of all listeners that name them, the operator's included, as errors."""
    text = 'listen: ["ssl:2:privateKey=absent", tcp:3]\nadmin: "ssl:4:privateKey=absent"\n'
    settings = settle(
        parse_document(f'{text}workers: {{main: {{endpoint: "unix:/m"}}}}'.encode(), f"{tmp_path}/s.yaml")
    )
    told = list(certificate_problems(settings, NOW))
    assert [(problem.line, problem.key, problem.severity) for problem in told] == [
        (1, "listen[0]", Severity.ERROR),
        (2, "admin", Severity.ERROR),
    ]


def test_the_check_tells_of_certificates(tmp_path: Path) -> None:
    """`matrix-sidecar check` finds what a start would, for the operator's listener too, and needs no Twisted for it."""
    text = 'listen: "ssl:2:privateKey=key"\nadmin: "ssl:3:privateKey=key:interface=127.0.0.1"\n'
    text += 'workers: {main: {endpoint: "unix:main"}}\n'
    (tmp_path / "sidecar.yaml").write_text(text)
    command = [sys.executable, "-m", "sidecar.cli", "check", "--no-ask", "-c", str(tmp_path / "sidecar.yaml")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert done.returncode == 2
    told = "does not exist; give a PEM file that the sidecar's user may read"
    assert [line for line in done.stdout.splitlines() if "does not exist" in line] == [
        f"{tmp_path}/sidecar.yaml:1: listen[0]: {tmp_path}/key {told}",
        f"{tmp_path}/sidecar.yaml:2: admin: {tmp_path}/key {told}",
    ]
