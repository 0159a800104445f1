"""The operator's password over HTTP Basic (RFC 7617): asked for, checked in constant time, wrong ones counted.

Knows nothing of what the password guards. A hash is worked out in a thread, one at a time, and what was right is
remembered, so that a page which asks every second costs the data path nothing.
"""

from __future__ import annotations

import secrets
from base64 import b64decode
from binascii import Error
from collections import deque
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Any

from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool

from sidecar.admin.operator_answer import OperatorAnswer
from sidecar.config.passwords import Secret
from sidecar.observe.telemetry import logger

_log = logger("sidecar.admin")

MINUTE = 60.0
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="matrix-sidecar", charset="UTF-8"'),)


def parse_basic(authorization: str) -> tuple[bytes, bytes] | None:
    """Name and password of an `Authorization` field; None where it has none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(value.strip(), validate=True).partition(b":")
    except (Error, ValueError):
        return None
    return (user, password) if colon else None


@define(eq=False)
class Doorkeeper:
    """Knows who was let in, and how often somebody was not."""

    reactor: Any
    _key: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _admitted: tuple[Secret, bytes] | None = field(default=None, init=False, repr=False)
    """With which password who was admitted last; of the latter only a digest."""
    _failures: deque[float] = field(factory=deque, init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    async def refusal(
        self, authorization: str, peer: str, user: str, secret: Secret | None, attempts: int
    ) -> OperatorAnswer | None:
        """Why a request is refused; None if it is not. `attempts`: wrong passwords that are checked in a minute."""
        if secret is None:
            return None
        given = parse_basic(authorization)
        if given is None:
            return OperatorAnswer(401, {"error": "This needs the operator's name and password."}, fields=_CHALLENGE)
        mark = digest(self._key, b"%d:%b:%b" % (len(given[0]), *given), "sha256")
        if self._knows(mark, user, secret):
            return None
        await self._lock.acquire()
        try:
            return await self._examined(given, mark, peer, user, secret, attempts)
        finally:
            self._lock.release()

    async def _examined(
        self, given: tuple[bytes, bytes], mark: bytes, peer: str, user: str, secret: Secret, attempts: int
    ) -> OperatorAnswer | None:
        if self._knows(mark, user, secret):
            return None
        wait = self._wait(attempts)
        if wait:
            return OperatorAnswer(429, {"error": "Too many wrong passwords."}, fields=(("Retry-After", str(wait)),))
        right = await self._matches(secret, given[1])
        named = compare_digest(sha256(given[0]).digest(), sha256(user.encode()).digest())
        if right and named:
            self._admitted = (secret, mark)
            return None
        self._failures.append(self.reactor.seconds())
        _log.warn("a wrong name or password for the operator's listener, from {peer}", peer=peer or "a UNIX socket")
        return OperatorAnswer(401, {"error": "The name or the password is wrong."}, fields=_CHALLENGE)

    def _knows(self, mark: bytes, user: str, secret: Secret) -> bool:
        known = self._admitted
        return known is not None and known[0] is secret and compare_digest(known[1], mark)

    def _wait(self, attempts: int) -> int:
        """Seconds for which no password is looked at; 0 for none."""
        now, failures = self.reactor.seconds(), self._failures
        while failures and failures[0] <= now - MINUTE:
            failures.popleft()
        return int(failures[-attempts] + MINUTE - now) + 1 if len(failures) >= attempts else 0

    async def _matches(self, secret: Secret, password: bytes) -> bool:
        if not secret.slow:
            return secret.matches(password)
        found: bool = await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), secret.matches, password)
        return found
