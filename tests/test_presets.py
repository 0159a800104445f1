"""The configurations in conf/ that replace those of other proxies: valid, commented, and what they promise in words.

Where their requests go is measured beside the real proxies in `tests/parity`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from processes import ROOT, Running, connect, exchange

from sidecar import tap
from sidecar.cli import main
from sidecar.config.load import load_settings
from sidecar.loading.deployment import DEFAULT_PATH

CONF = ROOT / "conf"
PRESETS = ("docker-nginx", "nginx-workers", "two-hosts")
DOCKER = CONF / "docker"
COMPOSE = (["docker", "compose"], ["docker-compose"])


@pytest.mark.parametrize("name", PRESETS)
def test_check_has_nothing_to_say(name: str) -> None:
    """As they are shipped."""
    result = CliRunner().invoke(main, ["check", "--no-ask", "-c", str(CONF / f"{name}.yaml")])
    assert result.exit_code == 0, result.output


def test_the_balancers_of_the_backend() -> None:
    """It reads Synapse's files of the host that it is for; that it does what it says: tests/edges."""
    settings = load_settings(str(CONF / "backend-balancers.yaml"))
    assert settings.warnings == ()
    assert set(settings.balancers) == {"pgsql", "ldap"}


@pytest.mark.parametrize("name", PRESETS)
def test_they_say_what_they_are(name: str) -> None:
    """A comment at the top, one in each of the sections that decide, and the page that compares."""
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith("# matrix-sidecar in ")
    assert "docs/parity.md" in text
    sections = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    for section in sections:
        if section.startswith(("workers:", "pools:", "routes:")):
            assert "#" in section, section


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The preset with nobody behind it."""
    directory = tmp_path_factory.mktemp("two_hosts")
    settings = yaml.safe_load((CONF / "two-hosts.yaml").read_text())
    for name, worker in settings["workers"].items():
        worker["endpoint"] = f"unix:{name}.sock"
    settings |= {"listen": "tcp:0:interface=127.0.0.1", "synapse": {"version": "1.163"}, "timeouts": {"wait": "100ms"}}
    del settings["admin"]
    (directory / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    with Running(["--config", "sidecar.yaml"], directory) as process:
        yield process


def answer(process: Running, host: str, target: str) -> tuple[int, str]:
    """Status, and everything."""
    with connect(process.address()) as connection:
        octets = exchange(connection, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return int(octets.split(b" ")[1]), octets.decode()


def test_browsers_see_a_page_and_clients_an_error(two_hosts: Running) -> None:
    """Where nobody answers: the sorry page of Element Web's pool, and Matrix errors anywhere else."""
    status, page = answer(two_hosts, "chat.example.org", "/index.html")
    assert status == 503
    assert "Content-Type: text/html; charset=utf-8\r\n" in page
    assert "<title>Sorry</title>" in page
    status, error = answer(two_hosts, "matrix.example.org", "/_matrix/client/v3/login")
    assert status == 503
    assert '"errcode"' in error
    status, closed = answer(two_hosts, "matrix.example.org", "/_synapse/admin/v1/rooms")
    assert (status, "M_FORBIDDEN" in closed) == (403, True)


def compose() -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return document


def test_the_compose_file_has_a_service_for_every_worker_of_the_preset() -> None:
    """Each with the volume of sockets, which the sidecar has too, beside the preset as its configuration."""
    services = compose()["services"]
    assert isinstance(services, dict)
    workers = yaml.safe_load((CONF / "docker-nginx.yaml").read_text())["workers"]
    assert set(services) == {"sidecar", "synapse", "postgres", "redis", *(set(workers) - {"main"})}
    for name in {*workers, "sidecar"} - {"main"}:
        assert "sockets:/sockets" in services[name]["volumes"]
        if name != "sidecar":
            assert services[name]["command"] == [f"--config-path=/data/workers/{name}.yaml"]
    assert all(worker["endpoint"].startswith("unix:/sockets/") for worker in workers.values())
    assert "../docker-nginx.yaml:/etc/matrix-sidecar/sidecar.yaml:ro" in services["sidecar"]["volumes"]
    assert (DOCKER / services["sidecar"]["build"]["context"] / services["sidecar"]["build"]["dockerfile"]).exists()


def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    """`docker compose config`, which needs no engine."""
    for command in COMPOSE:
        # A docker without the plugin takes `compose` for an unknown word, and fails.
        if shutil.which(command[0]) is None or subprocess.run([*command, "version"], capture_output=True).returncode:
            continue
        arguments = [*command, "-f", str(DOCKER / "compose.yaml"), "config"]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert set(yaml.safe_load(done.stdout)["services"]) >= {"sidecar", "synapse", "rooms4"}
        return
    pytest.skip("neither docker compose nor docker-compose is installed")


def test_the_image_starts_what_twistd_knows() -> None:
    """Its entry point, with the options of this checkout's plugin; building an image needs an engine."""
    text = (DOCKER / "Dockerfile").read_text()
    entry = yaml.safe_load(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0])
    command = yaml.safe_load(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0])
    assert entry == ["twistd", "--nodaemon", "--pidfile=", "matrix-sidecar"]
    options = tap.Options()
    options.parseOptions(command)
    assert options["config"] == DEFAULT_PATH
    check = ROOT / "conf" / "docker" / "healthcheck"
    assert options["admin"].split(":")[1] in check.read_text()
    for source in re.findall(r"^COPY ([^-]\S*) ", text, re.MULTILINE):
        assert (ROOT / source).exists()
    assert "EXPOSE 8008" in text
    assert yaml.safe_load((CONF / "docker-nginx.yaml").read_text())["listen"] == "tcp:8008"
