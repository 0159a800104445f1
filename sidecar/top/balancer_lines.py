"""The balancers on the screen of `top`: a line for each, and below it one for each server. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.snapshot import Snapshot
from sidecar.admin.words import duration, number, size
from sidecar.top.styled import Line, Piece, Style, fitted, left, right

_STYLES: dict[str, Style] = {"up": "good", "draining": "warm", "new": "warm", "down": "bad"}


def balancers(facts: Snapshot, width: int) -> Iterator[Line]:
    """All of them, or that there is none."""
    if not facts.balancers:
        yield (Piece(left("There are no balancers.", width), "soft"),)
        return
    names = [f"  {server}" for each in facts.balancers.values() for server in each.servers]
    room = min(max(8, *(len(name) for name in (*facts.balancers, *names))), max(width // 3, 8))
    title = f"{left('BALANCER', room)} {left('STATE', 9)} {right('CONNS', 12)} {right('WAIT', 6)} {right('IN', 9)}"
    yield (Piece(left(f"{title} {right('OUT', 9)} {right('SINCE', 11)}", width), "title"),)
    for name, balancer in facts.balancers.items():
        connections = f"{number(balancer.connections)} of {number(balancer.most)}"
        waiting = Piece(f" {right(number(balancer.waiting), 6)}", "warm" if balancer.waiting else "plain")
        yield fitted((Piece(f"{left(name, room)} {' ' * 9} {right(connections, 12)}", "bold"), waiting), width)
        for each, server in balancer.servers.items():
            most = "" if server.most is None else f" of {number(server.most)}"
            moved = f"{right(size(server.bytes_up), 9)} {right(size(server.bytes_down), 9)}"
            yield fitted(
                (
                    Piece(f"{left(f'  {each}', room)} "),
                    Piece(left(server.state, 9), _STYLES.get(server.state, "plain")),
                    Piece(f" {right(f'{number(server.connections)}{most}', 12)} {' ' * 6} {moved}"),
                    Piece(f" {right(duration(server.changed), 11)}"),
                    Piece(f"  {server.reason}" if server.reason else "", "soft"),
                ),
                width,
            )
