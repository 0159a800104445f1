"""The text of a new `sidecar.yaml`: few keys, each with the reason why it is there. Reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from attrs import field, frozen

from sidecar.config.amounts import write_size


@frozen(kw_only=True)
class FirstFile:
    """What the new file says."""

    listen: tuple[str, ...]
    admin: str
    config: tuple[str, ...]
    workers: tuple[str, ...] = ()
    how: str = ""
    """How Synapse's configuration was found."""
    trust: tuple[str, ...] = field(default=())
    """Networks of a reverse proxy on another host."""
    syncs: tuple[str, ...] = ()
    """Workers, or globs of them, that get all syncs; empty: those that share them without a word."""
    clients: tuple[str, ...] = ()
    """Workers whose names say that they are for other requests of clients."""
    request_body: int | None = None
    """Set where Synapse takes larger uploads than the sidecar does by default."""

    def text(self) -> str:
        """The file."""
        return "\n".join(self._parts())

    def _parts(self) -> list[str]:
        parts = [
            _HEAD,
            _LISTEN,
            f"listen: {_value(self.listen[0]) if len(self.listen) == 1 else _list(self.listen)}\n",
            _ADMIN,
            f"admin: {_value(self.admin)}\n",
        ]
        parts += [_SYNAPSE.format(how=self.how), "synapse:", f"  config: {_list(self.config)}"]
        parts += [f"  workers: {_list(self.workers)}"] if self.workers else [_NO_WORKERS]
        parts += [_VERSION, _FORWARDED]
        if self.trust:
            parts += ["forwarded:", f"  trust: {_list(('127.0.0.0/8', '::1', *self.trust))}\n"]
        else:
            parts += [_TRUST]
        parts += [_ACCESS]
        if self.syncs:
            parts += [_POOLS, "pools:", f"  sync: {{workers: {_list(self.syncs)}}}", *self._clients()]
        if self.request_body is not None:
            parts += [_LIMITS, "limits:", f"  request_body: {write_size(self.request_body)}\n"]
        return [*parts, _REST]

    def _clients(self) -> list[str]:
        """What could be written for them; requests but syncs are answered soonest where all workers take them."""
        if not self.clients:
            return [""]
        workers = _list(self.clients)
        return [_CLIENTS, *(f"  # {pool}: {{workers: {workers}}}" for pool in ("client", "rooms")), ""]


def _value(text: str) -> str:
    """A text as YAML, in quotes: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_value, values))}]"


_HEAD = """\
# The configuration of matrix-sidecar, written by `matrix-sidecar init`. After a change, run `matrix-sidecar check`,
# then reload. Every key with its default and reason is in docs/configuration.md; `man matrix-sidecar` has the commands.
"""
_LISTEN = """\
# Where the reverse proxy in front connects to. With the systemd units, matrix-sidecar.socket holds the port instead."""
_ADMIN = """\
# For the operator only: health, status, draining a worker, and `matrix-sidecar doctor`. Never make it public."""
_SYNAPSE = """\
# Synapse's own files, merged as Synapse merges them ({how}). They say where each process
# listens, what it serves, and which streams it writes, so you need not repeat that here."""
_NO_WORKERS = """\
  # workers: ["/etc/matrix-synapse/workers"]  # found none: everything goes to the main process"""
_VERSION = """\
  # version: "1.163"  # the release whose endpoints to use; default: ask the running main process
"""
_FORWARDED = """\
# The sidecar trusts X-Forwarded-For and X-Forwarded-Proto from the reverse proxy at these addresses only."""
_TRUST = """\
# forwarded:
#   trust: ["127.0.0.0/8", "::1"]  # the default; add the address of a proxy on another host
"""
_ACCESS = """\
# Nobody can reach the administrative paths through the sidecar. To allow a network:
# access:
#   admin: ["10.0.0.0/8"]
"""
_POOLS = """\
# By their names, these workers serve syncs. Without this, half of the workers that serve clients share the syncs,
# regardless of names. Each worker with syncs costs Synapse more; docs/scaling.md has the numbers."""
_CLIENTS = """\
  # Other requests go to every worker that serves clients, which is fastest. To keep them apart from syncs:"""
_LIMITS = """\
# Synapse's max_upload_size is larger than the sidecar's default limit."""
_REST = """\
# You do not need pools, weights or routes of your own to begin with; see docs/routing.md.
"""
