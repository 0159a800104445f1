"""A certificate from a certificate authority, renewed: Pebble and certbot with the sidecar as the edge between them.

Pebble is the authority that Let's Encrypt offers for tests; it asks for the challenge on the sidecar's port for HTTP.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from pem import Authority
from processes import PATIENCE, ROOT, free_ports

from edges.programs import NAMES, child, program, sidecar_as_the_edge, workers
from edges.recording import ask, secure

EXAMPLE, MATRIX = NAMES


@frozen
class Pebble:
    """A running authority."""

    url: str
    trusted: str
    """What who talks to it has to trust; not what it signs with."""


@contextmanager
def pebble(place: Path, http: int) -> Iterator[Pebble]:
    """It finds every name on 127.0.0.1, and asks for challenges on port `http`."""
    own, management, names, settings = free_ports(4)
    authority = Authority()
    key, certificate = authority.issue("localhost", "127.0.0.1")
    (place / "pebble.key").write_bytes(key)
    (place / "pebble.crt").write_bytes(certificate)
    configuration = {
        "listenAddress": f"127.0.0.1:{own}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(place / "pebble.crt"),
        "privateKey": str(place / "pebble.key"),
        "httpPort": http,
        "tlsPort": 1,
    }
    (place / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    resolver = [program("pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
    resolver += [*("-dns01", f"127.0.0.1:{names}", "-management", f"127.0.0.1:{settings}")]
    resolver += [*("-http01", "", "-https01", "", "-tlsalpn01", "")]
    command = [program("pebble"), "-config", str(place / "pebble.json"), "-dnsserver", f"127.0.0.1:{names}"]
    with child("names", place, resolver, (settings,)), child("pebble", place, command, (own,), **quick):
        yield Pebble(f"https://localhost:{own}/dir", str(authority.write(place)))


def issued_by(connection: ssl.SSLSocket) -> str:
    """Who signed the certificate that was shown, which nobody has verified."""
    from cryptography import x509

    shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).issuer.rfc4514_string()


@pytest.mark.needs("pebble", "pebble-challtestsrv", "certbot")
def test_a_certificate_is_renewed(tmp_path: Path) -> None:
    """Certbot proves both names through the sidecar, the hook brings the files, and the reload shows them."""
    (acme,) = free_ports(1)
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    with workers(tmp_path), sidecar_as_the_edge(tmp_path, acme=acme) as (ports, context, process):
        old = secure(ports.https, MATRIX, context)
        assert issued_by(old) == "CN=Test authority"
        programs = tmp_path / "bin"
        programs.mkdir()
        # The reload that systemd would send.
        (programs / "systemctl").write_text(f"#!/bin/sh\nkill -HUP {process.pid}\n")
        (programs / "systemctl").chmod(0o755)
        with pebble(tmp_path, ports.http) as authority:
            certbot(tmp_path, authority, acme, programs)
        process.says(r"reloaded: \S*/tls/fullchain\.pem: another certificate is in use")
        with secure(ports.https, MATRIX, anything) as new, secure(ports.federation, EXAMPLE, anything) as server:
            assert issued_by(new).startswith("CN=Pebble Intermediate CA")
            assert issued_by(server) == issued_by(new)
            assert ask(new, MATRIX, "/_matrix/client/versions").status == 200
        assert ask(old, MATRIX, "/_matrix/client/versions").status == 200
        old.close()


def certbot(place: Path, authority: Pebble, port: int, programs: Path) -> None:
    """Get a certificate as conf/edge.yaml says, with the hook that is shipped."""
    command = [program("certbot"), "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email"]
    command += ["--standalone", "--http-01-port", str(port), "--http-01-address", "127.0.0.1"]
    command += ["--server", authority.url, "--domains", ",".join(NAMES)]
    command += ["--deploy-hook", str(ROOT / "conf" / "edges" / "certbot-deploy-hook")]
    for kind in ("config", "work", "logs"):
        command += [f"--{kind}-dir", str(place / f"certbot-{kind}")]
    where = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    where |= {"REQUESTS_CA_BUNDLE": authority.trusted, "MATRIX_SIDECAR_GROUP": str(os.getgid())}
    where |= {"MATRIX_SIDECAR_TLS": str(place / "tls"), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=where, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
