"""How the sidecar is started on a host, and as whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hosts import debian, write

from sidecar.install import units
from sidecar.install.permissions import Account

ROOT = Path(__file__).parents[2]


def test_the_units_say_what_is_known_of_them() -> None:
    """Environment, port, group and the directory of the operator's socket, as they are shipped."""
    service = (ROOT / "systemd" / "matrix-sidecar.service").read_text()
    listening = (ROOT / "systemd" / "matrix-sidecar.socket").read_text()
    assert f"ExecStart={units.HOME}/bin/twistd" in service
    assert f"\nGroup={units.GROUP}\n" in service
    assert f'admin: "{units.ADMIN}"' in service
    assert "ListenStream=127.0.0.1:8008\n" in listening
    assert units.PORT == "tcp:8008:interface=127.0.0.1"


def test_with_systemd_the_user_owns_nothing_and_is_in_the_group(tmp_path: Path) -> None:
    """As DynamicUser has it; without the group it is in none."""
    debian(tmp_path)
    assert units.account(str(tmp_path), None) == Account("the user of matrix-sidecar.service", None, frozenset((990,)))
    (tmp_path / "etc" / "group").unlink()
    assert units.account(str(tmp_path), None).groups == frozenset()


def test_an_installed_unit_is_expected_to_run_as_it_says(tmp_path: Path) -> None:
    """And without one nothing is expected."""
    debian(tmp_path)
    assert units.expected(str(tmp_path)) is None
    write(tmp_path, "/etc/systemd/system/matrix-sidecar.service", "")
    assert units.expected(str(tmp_path)) == units.account(str(tmp_path), None)


def test_without_systemd_it_is_who_runs_this(tmp_path: Path) -> None:
    """As in a container."""
    assert units.account(str(tmp_path), None) == Account.current()


def test_a_named_user_has_the_groups_of_the_host(tmp_path: Path) -> None:
    """The primary one, and those that list it; names that are not there raise."""
    write(tmp_path, "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsynapse:x:120:121::/:/bin/false\n+\n")
    write(tmp_path, "/etc/group", "matrix-synapse:x:990:bob,synapse\nother:x:5:bob\nempty:x:7:\n")
    assert units.account(str(tmp_path), "synapse") == Account("synapse", 120, frozenset((121, 990)))
    with pytest.raises(units.NoUserError, match="There is no user nobody-here"):
        units.account(str(tmp_path), "nobody-here")


def test_with_systemd_the_units_are_copied_and_enabled(tmp_path: Path) -> None:
    """The environment is put in where it is another; the group is made where it is missing."""
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    commands = units.to_do(str(tmp_path), "/etc/matrix-sidecar/sidecar.yaml", units.PORT)
    assert commands[0] == f"cp {sys.prefix}/share/matrix-sidecar/systemd/* /etc/systemd/system/"
    assert f"sed -i 's#/opt/venvs/matrix-sidecar#{sys.prefix}#' /etc/systemd/system/matrix-sidecar*" in commands
    assert "groupadd --system matrix-synapse" in commands
    assert commands[-1].startswith("systemctl enable --now matrix-sidecar.socket matrix-sidecar.service")
    assert not any("ListenStream" in command for command in commands)


@pytest.mark.parametrize("place", ["usr/lib/systemd/system", "lib/systemd/system"])
def test_units_of_a_package_are_enabled_where_they_are(tmp_path: Path, place: str) -> None:
    """Nothing is copied, unless the unit has to be another."""
    debian(tmp_path)
    write(tmp_path, f"/{place}/matrix-sidecar.service", "")
    assert units.expected(str(tmp_path)) == units.account(str(tmp_path), None)
    assert [line.split()[0] for line in units.to_do(str(tmp_path), "x", units.PORT)] == ["systemctl", "systemctl"]
    commands = units.to_do(str(tmp_path), "x", "unix:/run/x.sock")
    assert f"cp /{place}/matrix-sidecar.service /etc/systemd/system/matrix-sidecar.service" in commands


def test_the_file_of_the_package_is_known_until_somebody_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init` replaces it without being forced to."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    write(tmp_path, "/share/matrix-sidecar/conf/minimal.yaml", "a: 1\n")
    write(tmp_path, "/etc/sidecar.yaml", "a: 1\n")
    assert units.is_as_shipped(str(tmp_path / "etc" / "sidecar.yaml"))
    write(tmp_path, "/etc/sidecar.yaml", "a: 2\n")
    assert not units.is_as_shipped(str(tmp_path / "etc" / "sidecar.yaml"))
    assert not units.is_as_shipped(str(tmp_path / "absent.yaml"))


def test_where_everything_is_as_the_units_say_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is where README.md puts it, and the group is there."""
    debian(tmp_path)
    monkeypatch.setattr(sys, "prefix", units.HOME)
    commands = units.to_do(str(tmp_path), "x", units.PORT)
    assert [command.split()[0] for command in commands] == ["cp", "systemctl", "systemctl"]


@pytest.mark.parametrize(
    ("listen", "stream", "domain"),
    [
        ("tcp:8009:interface=127.0.0.1", "127.0.0.1:8009", ""),
        ("tcp:8009", "0.0.0.0:8009", ""),
        (r"tcp6:8009:interface=2001\:db8\:\:1", "[2001:db8::1]:8009", "INET6"),
        ("unix:/run/x.sock", "/run/x.sock", "UNIX"),
    ],
)
def test_another_place_to_listen_goes_into_the_socket_unit(
    tmp_path: Path, listen: str, stream: str, domain: str
) -> None:
    """The commands need no editor: they write a drop-in for the socket, and another kind of socket into the service."""
    debian(tmp_path)
    there = "/etc/systemd/system"
    write(tmp_path, f"{there}/matrix-sidecar.service", (ROOT / "systemd/matrix-sidecar.service").read_text())
    for command in units.to_do(str(tmp_path), "x", listen):
        if not command.startswith("systemctl"):
            subprocess.run(["bash", "-c", command.replace(there, f"{tmp_path}{there}")], check=True)
    written = (tmp_path / "etc/systemd/system/matrix-sidecar.socket.d/listen.conf").read_text()
    assert written == f"[Socket]\nListenStream=\nListenStream={stream}\n"
    assert (
        f" systemd:domain={domain or 'INET'}:name=http"
        in (tmp_path / "etc/systemd/system/matrix-sidecar.service").read_text()
    )


def test_without_systemd_twistd_is_started_by_hand(tmp_path: Path) -> None:
    """With the file that was written."""
    (command,) = units.to_do(str(tmp_path), "/data/sidecar.yaml", units.PORT)
    assert command == f"{sys.prefix}/bin/twistd -n --pidfile= matrix-sidecar --config /data/sidecar.yaml"
