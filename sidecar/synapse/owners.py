"""Who owns which opaque token: learnt, remembered for a time, and forgotten within a bound.

A token is known by its mark only, a hash with a key that each process makes anew, so that nothing here tells a token or
can be compared with what another process holds. Reads no clock: every method is told the time, in seconds of any clock
that never goes back. Asks nobody, and knows no request.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from attrs import define, field

MARK = 15
"""Octets of a mark: as many as fit into the smallest object that Python makes for more than eight."""
LONGEST_USER = 255
"""Longest localpart that is remembered (Matrix, appendices 4.2.1: 255 octets for the whole user id)."""
DOUBLINGS = 5
"""How often the time without another question doubles for a token that is refused again and again."""

Fact = tuple[str | None, float, float]
"""A user, when to ask again, and when to forget; for a token without a user, None, when to ask again, and how often it
was refused so far."""


@define(eq=False)
class TokenOwners:
    """Remembers for at most `limit` tokens whose they are; the one that was not looked for longest makes room."""

    key: bytes = field(repr=False)
    """16 to 64 random octets."""
    limit: int
    lifetime: float
    """Seconds after which a user is asked for again, where the token's own end is not known."""
    stale: float
    """Seconds for which it is still believed meanwhile."""
    refused: float
    """Seconds after which a token without a user is asked for again; doubled each time."""
    _facts: OrderedDict[bytes, Fact] = field(factory=OrderedDict, repr=False, init=False)

    def __len__(self) -> int:
        return len(self._facts)

    def mark(self, token: bytes) -> bytes:
        """What stands for a token here; nothing of the token can be found from it."""
        return blake2b(token, digest_size=MARK, key=self.key).digest()

    def look(self, mark: bytes, now: float) -> tuple[str | None, bool]:
        """The localpart of the owner, None if it is not known, and whether to ask for it (again)."""
        facts = self._facts
        fact = facts.get(mark)
        if fact is None:
            return None, True
        user, due, end = fact
        if user is not None and now >= end:
            del facts[mark]
            return None, True
        facts.move_to_end(mark)
        return user, now >= due

    def learn(self, mark: bytes, user: str, now: float, left: float | None = None) -> None:
        """The token is `user`'s (a localpart), and valid for `left` more seconds where that is known.

        What is known already and not due is left as it is, unless its end is news.
        """
        if not user or len(user) > LONGEST_USER:
            return
        if left is not None:
            self._keep(mark, (user, now + left, now + left))
            return
        fact = self._facts.get(mark)
        if fact is None or fact[0] != user or now >= fact[1]:
            due = now + self.lifetime
            self._keep(mark, (user, due, due + self.stale))

    def refuse(self, mark: bytes, now: float) -> None:
        """Synapse says that the token is nobody's, or does not say whose. Not asked again for a while."""
        fact = self._facts.get(mark)
        times = 0 if fact is None or fact[0] is not None else int(fact[2])
        self._keep(mark, (None, now + self.refused * 2 ** min(times, DOUBLINGS), times + 1))

    def put_off(self, mark: bytes, now: float) -> None:
        """There was no answer: a user that is known stays so to its end, and is not asked for at once again."""
        fact = self._facts.get(mark)
        if fact is None or fact[0] is None:
            self.refuse(mark, now)
        else:
            self._keep(mark, (fact[0], now + self.refused, fact[2]))

    def use(self, *, limit: int, lifetime: float, stale: float, refused: float) -> None:
        """Hold at most `limit` tokens from now on, and for as long as the others say."""
        self.limit, self.lifetime, self.stale, self.refused = limit, lifetime, stale, refused
        self._make_room()

    def forget(self) -> None:
        """Forget all."""
        self._facts.clear()

    def _keep(self, mark: bytes, fact: Fact) -> None:
        self._facts[mark] = fact
        self._facts.move_to_end(mark)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._facts) > self.limit:
            self._facts.popitem(last=False)
