"""Is a connection that is reset without an answer proof that its request was not executed? Asked of a real Synapse.

`python -m tests.end_to_end.resets` ends a worker again and again, by SIGKILL and by SIGTERM, while POSTs are under way
on its UNIX socket; none of them may be sent twice by HTTP's rules. Each leaves a mark in Synapse's database if it is
executed, so that its end, as its client saw it, can be compared with what happened. Those that were reset are then sent
once more, as a gateway would that took the reset for proof; a mark that is there twice refutes the proof.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen

from .laboratory import Laboratory, register, running_services, running_synapse, scratch_directory
from .topology import GENERIC

WORKER = "generic1"
POSTS = 90
"""In each round; every third on a connection that had been used before, so that both fit into the backlog of 50."""
SPACING = 0.01
PATIENCE = 30.0

UNSENT, PART, RESET, EOF = "not sent", "sent in part", "reset", "end without an answer"
CUT, ANSWERED, HUNG = "cut", "answered", "hung"
OUTCOMES = (ANSWERED, RESET, EOF, CUT, PART, UNSENT, HUNG)


@define
class Post:
    """One POST, its mark, and what became of it. `late` octets are sent after the rest, as a slow upload is."""

    mark: str
    octets: bytes
    late: int
    connection: socket.socket | None = None
    got: bytearray = field(factory=bytearray)
    outcome: str = UNSENT


@frozen
class Author:
    """A user with a room, who makes POSTs that are executed as often as they arrive."""

    token: str
    room: str

    def post(self, number: int) -> Post:
        """Creates a room, or says something, with a mark that is found in the event that comes of it."""
        mark = f"mark-{secrets.token_hex(8)}"
        if number % 2:
            target = "createRoom"
            content: dict[str, Any] = {"creation_content": {"lab.mark": mark}}
        else:
            target = f"rooms/{quote(self.room)}/send/m.room.message"
            content = {"msgtype": "m.text", "body": mark}
        body = json.dumps(content).encode()
        head = (
            f"POST /_matrix/client/v3/{target} HTTP/1.1\r\nHost: lab\r\nAuthorization: Bearer {self.token}\r\n"
            f"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return Post(mark, head.encode() + body, late=len(body) if number % 5 == 0 else 0)


@define
class Tally:
    """What happened to the requests of each outcome."""

    requests: Counter[str] = field(factory=Counter)
    executed: Counter[str] = field(factory=Counter)
    resent: int = 0
    twice: int = 0
    """Marks that are there twice after those that were reset have been sent again."""

    def add(self, other: Tally) -> None:
        self.requests += other.requests
        self.executed += other.executed
        self.resent += other.resent
        self.twice += other.twice

    def lines(self) -> Iterator[str]:
        yield f"{'outcome':24}{'requests':>10}{'executed':>10}"
        for outcome in OUTCOMES:
            if self.requests[outcome]:
                yield f"{outcome:24}{self.requests[outcome]:>10}{self.executed[outcome]:>10}"
        yield f"{self.resent} that were reset were sent again; {self.twice} marks are there twice"


def experiment(laboratory: Laboratory, rounds: int, numbers: Sequence[signal.Signals], seed: int) -> dict[str, Tally]:
    """So many rounds for each signal; what came of them."""
    chance = random.Random(seed)
    author = author_in(laboratory)
    tallies = {}
    for number in numbers:
        tallies[number.name] = tally = Tally()
        for _ in range(rounds):
            tally.add(one_round(laboratory, author, WORKER, number, chance.uniform(0.4, 1.0)))
    return tallies


def author_in(laboratory: Laboratory) -> Author:
    main = laboratory.layout.socket("main")
    token = register(main, f"author{secrets.token_hex(4)}")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(main))
        connection.sendall(Author(token, "").post(1).octets)
        answer = b""
        while b'"room_id"' not in answer or not answer.endswith(b"0\r\n\r\n"):
            answer += (piece := connection.recv(65536))
            assert piece, answer
    room = answer.split(b'"room_id":"')[1].split(b'"')[0]
    return Author(token, room.decode())


def one_round(laboratory: Laboratory, author: Author, worker: str, number: signal.Signals, when: float) -> Tally:
    """POSTs one after another on connections of their own; in their midst, at `when` of 1, this process is ended."""
    path = laboratory.layout.socket(worker)
    posts = [author.post(number) for number in range(POSTS)]
    for post in posts[::3]:
        post.connection = used_connection(path)
    send(path, posts, int(when * POSTS), lambda: laboratory.children[worker].signal(number))
    receive(posts)
    assert laboratory.children[worker].ends(PATIENCE)
    laboratory.start(worker)
    found = executed(laboratory, posts)
    tally = Tally(Counter(post.outcome for post in posts), Counter(post.outcome for post in posts if found[post.mark]))
    again = [Post(post.mark, post.octets, 0) for post in posts if post.outcome == RESET]
    for post in again:
        post.connection = used_connection(path)
    send(path, again, POSTS, lambda: None)
    receive(again)
    assert all(post.outcome == ANSWERED for post in again), Counter(post.outcome for post in again)
    tally.resent = len(again)
    tally.twice = sum(count > 1 for count in executed(laboratory, posts).values())
    return tally


def used_connection(path: Path) -> socket.socket:
    """A connection that Synapse has accepted, and on which it has answered."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(path))
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: lab\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nOK"):
        answer += (piece := connection.recv(4096))
        assert piece, answer
    return connection


def send(path: Path, posts: Sequence[Post], end_at: int, end: Callable[[], None]) -> None:
    """Send all; in place of a pause before the one at `end_at`, `end` the worker."""
    held: list[Post] = []
    for position, post in enumerate(posts):
        if position == end_at:
            end()
        else:
            time.sleep(SPACING)
        if post.connection is None:
            post.connection = fresh_connection(path)
        if post.connection is not None and _send(post, post.octets[: len(post.octets) - post.late]) and post.late:
            held.append(post)
        if len(held) > 2:
            _send(late := held.pop(0), late.octets[-late.late :])
    for late in held:
        _send(late, late.octets[-late.late :])


def fresh_connection(path: Path) -> socket.socket | None:
    """A connection that may wait to be accepted; None where nobody listens, or the backlog is full."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    connection.settimeout(PATIENCE)
    return connection


def _send(post: Post, octets: bytes) -> bool:
    """Whether the kernel took them; if not, the worker had closed before it had all of the request."""
    assert post.connection is not None
    try:
        post.connection.sendall(octets)
    except ConnectionError:
        post.outcome = PART
        post.connection.close()
        post.connection = None
        return False
    return True


def receive(posts: Sequence[Post]) -> None:
    """Wait for the end of each."""
    poll = select.poll()
    open_posts = {post.connection.fileno(): post for post in posts if post.connection is not None}
    for descriptor in open_posts:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    while open_posts and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(1000):
            if _received(open_posts[descriptor]):
                poll.unregister(descriptor)
                ended = open_posts.pop(descriptor)
                assert ended.connection is not None
                ended.connection.close()
    for post in open_posts.values():
        post.outcome = HUNG
        assert post.connection is not None
        post.connection.close()


def _received(post: Post) -> bool:
    """Take what has come; whether that was the end."""
    assert post.connection is not None
    try:
        piece = post.connection.recv(65536)
    except ConnectionResetError:
        post.outcome = CUT if post.got else RESET
        return True
    if not piece:
        post.outcome = CUT if post.got else EOF
        return True
    post.got += piece
    if post.got.endswith(b"0\r\n\r\n"):
        post.outcome = ANSWERED
        assert post.got.startswith(b"HTTP/1.1 200 "), post.got
        return True
    return False


def executed(laboratory: Laboratory, posts: Sequence[Post]) -> dict[str, int]:
    """How often each mark is in the database; asked until nothing is added any more, for main writes by itself."""
    marks = [post.mark for post in posts]
    before: dict[str, int] = {}
    while True:
        found = dict.fromkeys(marks, 0)
        for (text,) in laboratory.query("SELECT json FROM event_json WHERE json LIKE '%%mark-%%'"):
            content = json.loads(text)["content"]
            mark = content.get("lab.mark") or content.get("body")
            with suppress(KeyError):
                found[mark] += 1
        if found == before:
            return found
        before = found
        time.sleep(0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.resets", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="for each of the two signals")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with (
        scratch_directory() as root,
        running_services(root) as services,
        running_synapse(services, GENERIC) as laboratory,
    ):
        signals = (signal.SIGKILL, signal.SIGTERM)
        tallies = experiment(laboratory, options.rounds, signals, options.seed)
    for name, tally in tallies.items():
        print(f"\n{name}, {options.rounds} rounds of {POSTS} POSTs", *tally.lines(), sep="\n")
    return 1 if any(tally.executed[RESET] or tally.twice for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
