"""The log line of an exchange: JSON for machines, words for people.

Every value is a number, a name of the configuration, an address, or text that was checked before (a method, a request
id), so no client can inject a line. Knows neither files nor settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import blake2b

from attrs import define, field

from sidecar.records.choice import LogChoice
from sidecar.records.record import DONE, Record, ended_by, is_fault
from sidecar.records.request_id import NewIds

KEPT = 8192
"""How many groups of common values are remembered as text; then all are forgotten."""
_DIGEST = 8
"""Bytes of a hashed key: enough to make collisions among a million users unlikely."""

_JSON = (
    '{"time":"%sZ","id":"%s",%s,"bytes_up":%d,"bytes_down":%d,"queue":%.6f,"connect":%.6f,"first_byte":%.6f,'
    '"total":%.6f,"retries":%d,"ending":"%s","ended_by":"%s"%s}\n'
)
_TEXT = "%sZ id=%s %s up=%d down=%d queue=%.6f connect=%.6f first_byte=%.6f total=%.6f retries=%d %s by=%s%s\n"
_DIGITS = tuple(f"{number:03}" for number in range(1000))
"""A thousand numbers as text: looking up two of them takes a third of the time of formatting a fraction."""
_ROUNDING = 1e-6
"""Seconds; more than the rounding error of milliseconds since 1970."""
_WARNING, _INFO = "<4>", "<6>"


_Group = tuple[str, bytes, str, "str | None", str, str, str, int]
"""What many exchanges have in common: client, method, kind and key of the affinity, endpoint, pool, worker, status."""


class Hasher:
    """Turns an affinity key into a keyed hash, which is equal for equal keys and does not reveal them.

    Without the secret, somebody could try the keys of all users. Equal in every process with the same secret.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """`secret`: of any length, and known to nobody who reads the log."""
        # BLAKE2 takes at most 64 bytes as its key.
        self._secret = blake2b(secret, person=b"sidecar log", digest_size=64).digest()

    def hashed(self, kind: str, key: str) -> str:
        """The hash of a key, in hexadecimal digits; keys of different kinds have different hashes."""
        octets = f"{kind}:{key}".encode("utf-8", "surrogatepass")
        return blake2b(octets, key=self._secret, digest_size=_DIGEST).hexdigest()


@define(eq=False)
class Lines:
    """Formats exchanges as text."""

    hasher: Hasher
    ids: NewIds
    """Makes ids for requests that have none yet."""
    choice: LogChoice = field(factory=LogChoice)
    json: bool = False
    levels: bool = False
    """Lines begin with their priority as systemd's journal reads it (sd-daemon(3)): warning for a fault, else info."""
    _groups: dict[_Group, str] = field(factory=dict, init=False)
    _second: int = field(default=-1, init=False)
    _date: str = field(default="", init=False)

    def of(self, records: Iterable[Record], since: float) -> list[str]:
        """The lines of the exchanges that are logged, each with its line feed.

        `since`: when the clock of the records was at 0, in seconds since 1970. One loop nearly without calls, because
        calls are expensive. It formats the common case, a request without a fault that ended within a second; `_line`
        formats all others.
        """
        lines = []
        groups, all_told, level = self._groups, self.choice.all, _INFO if self.levels else ""
        prefix, count = self.ids.prefix, self.ids.count
        begin, until, time = 0.0, 0.0, ""
        for record in records:
            ended, first_byte, total = record.ended, record.first_byte, record.ended - record.began
            if not begin <= ended < until:
                begin, until, time = self._time(since, ended)
            name = record.request_id or f"{prefix}-{(count := count + 1)}"
            group = (
                record.client, record.method, record.kind, record.key,
                record.endpoint, record.pool, record.worker, record.status,
            )  # fmt: skip
            if not (
                (all_told and record.ending is DONE and record.status < 500 and record.attempts < 2)
                and not (record.queue or record.uncompressed or record.trace)
                and 0.0 <= first_byte <= total < 1.0
            ):
                if line := self._line(record, group, time, name):
                    lines.append(line)
                continue
            told = groups.get(group) or self._keep(group)
            first, whole = int(first_byte * 1e6), int(total * 1e6)
            if self.json:
                lines.append(
                    f'{level}{{"time":"{time}Z","id":"{name}",{told},"bytes_up":{record.bytes_up},'
                    f'"bytes_down":{record.bytes_down},"queue":0,"connect":0,'
                    f'"first_byte":0.{_DIGITS[first // 1000]}{_DIGITS[first % 1000]},'
                    f'"total":0.{_DIGITS[whole // 1000]}{_DIGITS[whole % 1000]},'
                    '"retries":0,"ending":"done","ended_by":"worker"}\n'
                )
            else:
                lines.append(
                    f"{level}{time}Z id={name} {told} up={record.bytes_up} down={record.bytes_down} queue=0 connect=0 "
                    f"first_byte=0.{_DIGITS[first // 1000]}{_DIGITS[first % 1000]} "
                    f"total=0.{_DIGITS[whole // 1000]}{_DIGITS[whole % 1000]} retries=0 done by=worker\n"
                )
        self.ids.use_up(count)
        return lines

    def _time(self, since: float, ended: float) -> tuple[float, float, str]:
        """UTC to the millisecond as text, and from when until when it is valid, by the clock of `ended`.

        The date is formatted once for all lines of a second.
        """
        moment = int((since + ended) * 1000)
        second, rest = divmod(moment, 1000)
        if second != self._second:
            self._second = second
            self._date = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.")
        return ended, (moment + 1) / 1000 - since - _ROUNDING, f"{self._date}{rest:03d}"

    def _line(self, record: Record, group: _Group, time: str, name: str) -> str:
        """The line of any exchange; empty if it is not logged."""
        fault = is_fault(record.status, record.ending)
        share = self.choice.share(record.endpoint, fault)
        if not share:
            return ""
        line = (_JSON if self.json else _TEXT) % (
            time,
            name,
            self._groups.get(group) or self._keep(group),
            record.bytes_up,
            record.bytes_down,
            record.queue,
            record.connect,
            record.first_byte,
            record.ended - record.began,
            max(0, record.attempts - 1),
            record.ending,
            ended_by(record.ending),
            self._rest(record.uncompressed, record.trace, share),
        )
        return (_WARNING if fault else _INFO) + line if self.levels else line

    def _rest(self, uncompressed: int, trace: str, share: float) -> str:
        """Values that few lines have."""
        rest = ""
        if uncompressed:
            rest = f',"uncompressed":{uncompressed}' if self.json else f" uncompressed={uncompressed}"
        if trace and self.json:
            rest += f',"traceparent":"{trace}"'
        if share != 1.0:
            rest += f',"share":{share:g}' if self.json else f" share={share:g}"
        return rest

    def _keep(self, group: _Group) -> str:
        """The text of a group, remembered."""
        client, method, kind, key, endpoint, pool, worker, status = group
        word = None if key is None else self.hasher.hashed(kind, key)
        verb = method.decode("latin-1")
        if self.json:
            told = "null" if word is None else f'"{word}"'
            text = (
                f'"client":"{client}","method":"{verb}","endpoint":"{endpoint}","pool":{_quoted(pool)},'
                f'"worker":{_quoted(worker)},"affinity":"{kind}","key":{told},"status":{status}'
            )
        else:
            text = f"{client} {verb} {endpoint} pool={pool or '-'} worker={_word(worker)} key={kind}"
            text += f":{word} {status}" if word else f" {status}"
        if len(self._groups) >= KEPT:
            self._groups.clear()
        self._groups[group] = text
        return text


@lru_cache(1024)
def _quoted(name: str) -> str:
    """A name from the configuration, in JSON; Synapse allows any text as the name of a worker."""
    return json.dumps(name)


@lru_cache(1024)
def _word(name: str) -> str:
    """The same as one word."""
    return json.dumps(name)[1:-1].replace(" ", "\\u0020") or "-"
