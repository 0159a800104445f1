"""The addresses of names, from the system's resolver, and callbacks for when they change.

A name is looked up again for each connection, and regularly while somebody follows it. Simultaneous lookups of one name
share the answer. The resolver blocks, so it runs in threads of our own: a slow one holds up neither the reactor nor its
threads. Knows nothing of what is at the addresses.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from attrs import define, field, frozen
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IDelayedCall

Told = Callable[[Sequence[str]], None]
NotTold = Callable[[BaseException], None]


@frozen(slots=True, kw_only=True)
class NameLimits:
    """Seconds, and a count for `lookups`; the keys of `timeouts` and `limits` say more."""

    patience: float = 2.0
    hold: float = 30.0
    interval: float = 5.0
    lookups: int = 8


def resolved(name: str) -> tuple[str, ...]:
    """The addresses in the system's order (getaddrinfo(3), gai.conf(5)). Blocks. Raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


@define(eq=False)
class _Name:
    """What is known of one name."""

    addresses: tuple[str, ...] = ()
    heard: float = float("-inf")
    """When the resolver last answered."""
    asking: bool = False
    late: IDelayedCall | None = None
    """The deadline of the running lookup; None if there is none, or it has passed."""
    waiting: list[tuple[Told, NotTold]] = field(factory=list)
    followers: list[Callable[[], None]] = field(factory=list)
    turn: int = 0


@define(eq=False)
class Names:
    """All names that are connected to."""

    reactor: Any
    limits: NameLimits = field(factory=NameLimits)
    resolve: Callable[[str], tuple[str, ...]] = resolved
    _names: dict[str, _Name] = field(factory=dict)
    _running: int = 0
    _queue: deque[str] = field(factory=deque)
    _round: IDelayedCall | None = None

    def use(self, limits: NameLimits) -> None:
        """Use these settings."""
        self.limits = limits

    def find(self, name: str, told: Told, failed: NotTold) -> None:
        """Call back with the addresses of `name`, in the order in which to try them; or with why there are none.

        Equal addresses take turns at the front. Happens after this returns, unless the resolver is late already.
        """
        known = self._names.setdefault(name, _Name())
        known.waiting.append((told, failed))
        if not known.asking:
            self._ask(name, known)
        elif known.late is None:
            self._by_what_is_known(name, known)

    def follow(self, name: str, moved: Callable[[], None]) -> None:
        """Call `moved` when `name` has lost an address."""
        self._names.setdefault(name, _Name()).followers.append(moved)
        self._go_round()

    def ignore(self, name: str, moved: Callable[[], None]) -> None:
        """Do not any more."""
        known = self._names.get(name)
        if known is not None and moved in known.followers:
            known.followers.remove(moved)

    def close(self) -> None:
        """Ask nothing any more."""
        for known in self._names.values():
            known.followers.clear()
            if known.late is not None:
                known.late.cancel()
                known.late = None
        if self._round is not None:
            self._round.cancel()
            self._round = None

    # Asking.

    def _go_round(self) -> None:
        followed = any(known.followers for known in self._names.values())
        if followed and self._round is None:
            self._round = self.reactor.callLater(self.limits.interval, self._ask_again)

    def _ask_again(self) -> None:
        self._round = None
        for name, known in self._names.items():
            if known.followers and not known.asking:
                self._ask(name, known)
        self._go_round()

    def _ask(self, name: str, known: _Name) -> None:
        known.asking = True
        known.late = self.reactor.callLater(self.limits.patience, self._is_late, name)
        self._queue.append(name)
        self._begin()

    def _begin(self) -> None:
        while self._queue and self._running < self.limits.lookups:
            self._running += 1
            # A daemon thread: the end of the process does not wait for it, as it would for a pool.
            Thread(target=self._look_up, args=(self._queue.popleft(),), daemon=True).start()

    def _look_up(self, name: str) -> None:
        """In a thread."""
        answer: tuple[str, ...] | DNSLookupError
        try:
            answer = self.resolve(name)
        except (OSError, UnicodeError) as error:
            answer = DNSLookupError(f"{name}: {getattr(error, 'strerror', None) or error}")
        self.reactor.callFromThread(self._answered, name, answer)

    # Answers.

    def _is_late(self, name: str) -> None:
        known = self._names[name]
        known.late = None
        self._by_what_is_known(name, known)

    def _answered(self, name: str, answer: tuple[str, ...] | DNSLookupError) -> None:
        self._running -= 1
        known = self._names[name]
        known.asking = False
        if known.late is not None:
            known.late.cancel()
            known.late = None
        if isinstance(answer, DNSLookupError):
            self._by_what_is_known(name, known, answer)
        else:
            before, known.addresses = known.addresses, answer
            known.heard = self.reactor.seconds()
            self._tell(known)
            if not set(before) <= set(answer):
                for moved in tuple(known.followers):
                    moved()
        self._begin()

    def _by_what_is_known(self, name: str, known: _Name, why: DNSLookupError | None = None) -> None:
        """The resolver fails, or has no address: its last answer stays valid for a while."""
        if known.addresses and self.reactor.seconds() - known.heard <= self.limits.hold:
            self._tell(known)
            return
        error = why or DNSLookupError(f"{name}: the resolver has not answered for {self.limits.patience:g} s")
        waiting, known.waiting = known.waiting, []
        for _, failed in waiting:
            failed(error)

    def _tell(self, known: _Name) -> None:
        waiting, known.waiting = known.waiting, []
        for told, _ in waiting:
            told(turned(known.addresses, known.turn))
            known.turn += 1


def turned(addresses: Sequence[str], turn: int) -> tuple[str, ...]:
    """Addresses of the first family take turns; those of the other stay last, for when none of these answers."""
    first = [each for each in addresses if (":" in each) is (":" in addresses[0])] if addresses else []
    others = [each for each in addresses if each not in first]
    start = turn % len(first) if first else 0
    return (*first[start:], *first[:start], *others)
