"""The line that is written for an exchange: JSON for machines, words for people.

Every value is a number, a name of the configuration, an address, or text that was checked before (a method, a request
id), so no client can break a line. Knows neither files nor settings.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any

from attrs import define, field

from sidecar.records.record import DONE, Record, ended_by, picked

KEPT = 8192
"""So many groups (method, endpoint, pool, key, worker) are remembered as text; then all are forgotten."""
_DIGEST = 8
"""Bytes of a hashed key: enough that two of a million users do not meet by chance."""

# What nearly every line is, a request that neither waited nor was sent again, has a template of its own: with all of
# its values in place, a template is filled in half the time.
_JSON = '{"time":"%s%03dZ","id":"%s","client":"%s",%s,"status":%d,"bytes_up":%d,"bytes_down":%d,'
_JSON_PLAIN = (
    _JSON + '"queue":0,"connect":0,"first_byte":%.6f,"total":%.6f,"retries":0,"ending":"done","ended_by":"worker"}\n'
)
_JSON_ANY = (
    _JSON + '"queue":%.6f,"connect":%.6f,"first_byte":%.6f,"total":%.6f,"retries":%d,"ending":"%s","ended_by":"%s"%s}\n'
)
_TEXT = "%s%03dZ id=%s %s %s %d up=%d down=%d "
_TEXT_PLAIN = _TEXT + "queue=0 connect=0 first_byte=%.6f total=%.6f retries=0 done by=worker\n"
_TEXT_ANY = _TEXT + "queue=%.6f connect=%.6f first_byte=%.6f total=%.6f retries=%d %s by=%s%s\n"

_group = picked("method", "endpoint", "pool", "kind", "key", "worker")
_told = picked(
    *("client", "status", "bytes_up", "bytes_down", "queue", "connect"),
    *("first_byte", "began", "ended", "retries", "ending", "request_id"),
)


class Hasher:
    """Makes of an affinity key a word that tells equal keys from others, and from which nobody finds the key.

    Without the secret the keys of all users of a server could be tried. The same in every process with that secret.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """`secret`: of any length, and known to nobody who reads the log."""
        # BLAKE2 takes at most 64 bytes as its key.
        self._secret = blake2b(secret, person=b"sidecar log", digest_size=64).digest()

    def hashed(self, kind: str, key: str) -> str:
        """The word for a key, in hexadecimal digits; the same key of another kind has another one."""
        octets = f"{kind}:{key}".encode("utf-8", "surrogatepass")
        return blake2b(octets, key=self._secret, digest_size=_DIGEST).hexdigest()


@define(eq=False)
class Lines:
    """Writes what is told of an exchange as text."""

    hasher: Hasher
    json: bool = False
    _groups: dict[tuple[Any, ...], str] = field(factory=dict, init=False)
    _second: int = field(default=-1, init=False)
    _date: str = field(default="", init=False)

    def line(self, since: float, share: float, record: Record) -> str:
        """The line of an exchange, with its line feed.

        `since`: when the clock of the record was at 0, in seconds since 1970. `share`: the line stands for exchanges
        of which only this part is told of.
        """
        client, status, up, down, queue, connect, first_byte, began, ended, retries, ending, request_id = _told(record)
        now, total = since + ended, ended - began
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.")
        group = _group(record)
        told = self._groups.get(group) or self._keep(group)
        milliseconds = int((now - second) * 1000)
        if ending is DONE and not queue and not retries and share == 1.0:
            return (_JSON_PLAIN if self.json else _TEXT_PLAIN) % (
                *(self._date, milliseconds, request_id, client, told, status, up, down, first_byte, total),
            )
        return (_JSON_ANY if self.json else _TEXT_ANY) % (
            *(self._date, milliseconds, request_id, client, told, status, up, down),
            *(queue, connect, first_byte, total, retries, ending, ended_by(ending), self._share(share)),
        )

    def _share(self, share: float) -> str:
        if share == 1.0:
            return ""
        return f',"share":{share:g}' if self.json else f" share={share:g}"

    def _keep(self, group: tuple[Any, ...]) -> str:
        """What is told of a group, remembered."""
        method, endpoint, pool, kind, key, worker = group
        word = None if key is None else self.hasher.hashed(kind, key)
        if self.json:
            fields = {"method": method.decode("latin-1"), "endpoint": endpoint, "pool": pool, "worker": worker}
            text = json.dumps({**fields, "affinity": kind, "key": word}, separators=(",", ":"))[1:-1]
        else:
            text = f"{method.decode('latin-1')} {endpoint} pool={pool or '-'} worker={_word(worker)} key={kind}"
            text += f":{word}" if word else ""
        if len(self._groups) >= KEPT:
            self._groups.clear()
        self._groups[group] = text
        return text


def _word(name: str) -> str:
    """A worker's name, which Synapse lets be any text, as one word."""
    return json.dumps(name)[1:-1].replace(" ", "\\u0020") or "-"
