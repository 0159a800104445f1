"""A network of one test: hosts in network namespaces at one switch, which nothing outside can reach.

Needs to be root on Linux, and `ip`. Nothing of it is left when the block ends. Knows nothing of what runs on the hosts.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from attrs import frozen

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@frozen
class Host:
    """One host of the network: a namespace whose `eth0` is plugged into the switch, or the switch itself."""

    namespace: str
    address: str
    plug: tuple[str, ...] = ()
    """The `ip link set` with which the switch's end of its cable is moved."""

    def within(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def addresses(self) -> str:
        """What `ip address` says there."""
        return _ip("-n", self.namespace, "-4", "address", "show")

    def forget(self, address: str) -> None:
        """Give up an address of this /24, as a host does that is switched off."""
        with suppress(OSError):
            _ip("-n", self.namespace, "address", "delete", f"{address}/24", "dev", "eth0")

    def plugged(self, state: str) -> None:
        """Pull the cable (`down`) or put it back (`up`)."""
        _ip(*self.plug, state)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread makes within are this host's, and stay so."""
        with open("/proc/thread-self/ns/net") as outside, open(f"/run/netns/{self.namespace}") as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the network namespace could not be entered")


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def network(switch: str, *hosts: str) -> Iterator[list[Host]]:
    """The switch, which is a host too, and the hosts, at these addresses of one /24. Skips where it is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    prefix = f"sidecar-{os.getpid()}"
    with ExitStack() as stack:
        lan = f"{prefix}-lan"
        try:
            stack.enter_context(_namespace(lan))
        except OSError as error:
            pytest.skip(f"network namespaces are not allowed here: {error}")
        _ip("-n", lan, "link", "add", "switch", "type", "bridge")
        _ip("-n", lan, "address", "add", f"{switch}/24", "dev", "switch")
        _ip("-n", lan, "link", "set", "switch", "up")
        found = [Host(lan, switch)]
        for number, address in enumerate(hosts, 1):
            name, port = f"{prefix}-{number}", f"port{number}"
            stack.enter_context(_namespace(name))
            _ip("link", "add", port, "netns", lan, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", lan, "link", "set", port, "master", "switch", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            found.append(Host(name, address, ("-n", lan, "link", "set", port)))
        yield found


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        with suppress(OSError):
            _ip("netns", "delete", name)
