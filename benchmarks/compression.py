"""What compressing a first sync costs, beside nginx and HAProxy: `python -m benchmarks.compression`.

The answer is one that Synapse gave (`first_sync.json`). Every program compresses it for the same client; the processor
time is that of the program, the bytes are those of the content. Then, how long the sidecar's reactor is held at a time.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from attrs import evolve

from benchmarks import load, processes, programs, traffic
from benchmarks.programs import PROGRAMS, TEMPLATES, Processors, Program, Proxy, Workers
from benchmarks.tables import table
from sidecar.exchange.coding import Coder

BODY = (Path(__file__).parent / "first_sync.json").read_bytes()
_REQUEST = traffic.request("GET", "/_matrix/client/v3/sync?filter=0", "alice")
_READ = 65536
_ROUNDS, _REQUESTS = 5, 200
_GZIP = "gzip on; gzip_types application/json; gzip_proxied any; gzip_min_length 1000; gzip_comp_level {};"
_HAPROXY = "defaults\n    compression algo gzip\n    compression type application/json\n"
_KNOWN = {program.name: program for program in PROGRAMS}
VARIANTS: Mapping[str, tuple[str, tuple[str, str]]] = {
    "sidecar": ("sidecar", ("", "")),
    **{f"sidecar, level {level}": ("sidecar", ("", f"\ncompress: {{level: {level}}}\n")) for level in (1, 6)},
    "nginx": ("nginx", ("proxy_buffering off;", "")),
    **{f"nginx, level {level}": ("nginx", ("proxy_buffering off;", _GZIP.format(level))) for level in (1, 6)},
    "haproxy": ("haproxy", ("", "")),
    "haproxy, level 1": ("haproxy", ("defaults\n", _HAPROXY)),
}
"""Of each, the program, and what stands in its template in place of what."""


def variant(name: str, place: Path) -> Program:
    """The program with a template of its own."""
    program, (old, new) = VARIANTS[name]
    text = (TEMPLATES / _KNOWN[program].template).read_text()
    path = place / f"{name.replace(', ', '-').replace(' ', '-')}.template"
    path.write_text(text.replace(old, new) if old else text + new)
    return evolve(_KNOWN[program], name=path.stem, template=str(path))


@contextmanager
def worker(place: Path) -> Iterator[Workers]:
    """Answers every request with the first sync, in this process."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "worker.sock"))
    os.chmod(place / "worker.sock", 0o666)
    listener.listen(64)
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    try:
        yield Workers(str(place / "worker.sock"))
    finally:
        listener.close()


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    sync, heard = traffic.answer(BODY), b""
    with connection:
        while octets := connection.recv(65536):
            heard += octets
            if heard.endswith(b"\r\n\r\n"):
                connection.sendall(traffic.answer(heard, b"text/plain") if b" /benchmark/head " in heard else sync)
                heard = b""


def answered(connection: socket.socket) -> bytes:
    """The content of one answer as it was sent."""
    connection.sendall(_REQUEST)
    stream = connection.makefile("rb")
    head = b"".join(iter(stream.readline, b"\r\n"))
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    if length:
        return stream.read(int(length[1]))
    content = b""
    while size := int(stream.readline(), 16):
        content += stream.read(size)
        stream.readline()
    stream.readline()
    return content


def spent(proxy: Proxy) -> tuple[float, int]:
    """Microseconds of processor time for an answer, and bytes of its content."""
    with load.connect(proxy.address) as connection:
        content = answered(connection)
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        if plain != BODY:
            raise load.LoadError(f"{proxy.program.name} sent something else")
        before = processes.usage(proxy.process.pid)
        for _ in range(_REQUESTS):
            answered(connection)
        return processes.usage(proxy.process.pid).since(before).total / _REQUESTS * 1e6, len(content)


def steps(level: int, content: bytes) -> tuple[float, float]:
    """Milliseconds of processor time that the reactor is held for one read of a large answer: median and most."""
    coder, taken = Coder(level, chunked=False), []
    for start in range(0, len(content), _READ):
        began = time.thread_time()
        coder.take(content[start : start + _READ])
        coder.give(ended=False)
        taken.append((time.thread_time() - began) * 1000)
    return median(taken), max(taken)


def large() -> Mapping[str, bytes]:
    """Two megabytes of answers: first syncs of which no two have an id in common, and the worst, nothing but ids."""
    dice = random.Random(1)

    def fresh(found: re.Match[bytes]) -> bytes:
        return base64.urlsafe_b64encode(dice.randbytes(len(found[0])))[: len(found[0])]

    syncs = b"".join(re.sub(rb"[\w-]{18,}", fresh, BODY) for _ in range(80))
    return {"syncs": syncs, "nothing but ids": base64.urlsafe_b64encode(dice.randbytes(1_500_000))}


def main() -> int:
    """Print the tables."""
    processors = Processors.divided(sorted(os.sched_getaffinity(0)))
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in VARIANTS}
    with programs.directory() as place, worker(place) as behind, ExitStack() as stack:
        running = {}
        for name in VARIANTS:
            running[name] = stack.enter_context(programs.proxy(variant(name, place), place, behind, processors))
        for _ in range(_ROUNDS):
            for name, proxy in running.items():
                found[name].append(spent(proxy))
    rows = [["", "CPU for an answer, µs", "content, bytes"]]
    for name, values in found.items():
        times = [microseconds for microseconds, _ in values]
        rows.append([name, f"{median(times):.0f} ({min(times):.0f}-{max(times):.0f})", f"{values[0][1]:,}"])
    print(table(rows), end="\n\n")
    held = [["a read of 64 KiB", "median, ms", "longest, ms"]]
    for what, content in large().items():
        for level in (1, 6, 9):
            held.append([f"{what}, level {level}", *(f"{value:.2f}" for value in steps(level, content))])
    print(table(held))
    return 0


if __name__ == "__main__":
    json.loads(BODY)
    sys.exit(main())
