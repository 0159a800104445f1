"""A reload: what it changes, what it leaves alone, and that nobody notices one."""

from __future__ import annotations

import signal
from pathlib import Path

from busy import AnsweringWorker, BusyClients, sync_of
from processes import Running

RELOADS = 50
WORKERS = ("main", "sync1", "sync2", "sync3")


def configuration(number: int, *, broken: bool = False, listen: str = "tcp:0:interface=127.0.0.1") -> str:
    """The `number`th: one worker comes or goes, another weighs more, a limit is another. Broken: a key is unknown."""
    present = [name for name in WORKERS if name != f"sync{number % 3 + 1}"]
    workers = "".join(
        f'  {name}: {{endpoint: "unix:{name}.sock", serves: [client], weight: {1 + (number + index) % 4}}}\n'
        for index, name in enumerate(present)
    )
    return (
        f'listen: "{listen}"\nsynapse: {{version: "1.163.2"}}\nworkers:\n{workers}'
        f"pools:\n  sync: {{workers: [{', '.join(present[1:])}]}}\n"
        f"limits:\n  {f'nonsense{number}' if broken else 'waiting'}: {1000 + number}\n"
    )


def test_reloads_under_load(tmp_path: Path) -> None:
    """Busy clients that never retry notice none of 50 reloads, every other one of which has a broken file."""
    path = tmp_path / "sidecar.yaml"
    path.write_text(configuration(0))
    workers = [AnsweringWorker(tmp_path, name) for name in WORKERS]
    with Running(["-c", str(path)], tmp_path) as sidecar:
        address = sidecar.address()
        with BusyClients(20, address, sync_of) as clients:
            clients.more(100)
            for number in range(1, RELOADS + 1):
                broken = number % 2 == 1
                path.write_text(configuration(number, broken=broken))
                sidecar.signal(signal.SIGHUP)
                if broken:
                    sidecar.says(rf"not reloaded, nothing has changed: .*sidecar\.yaml:\d+: limits\.nonsense{number}: ")
                else:
                    sidecar.says(rf"reloaded: workers added: .*limits\.waiting: {1000 + number} \(before: ")
                clients.more(20)
        assert not clients.failures
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ends() == 0
        assert "Traceback" not in sidecar.said
    print(clients.requests)
    assert all(worker.answered for worker in workers[1:])
    for worker in workers:
        worker.close()
        assert worker.failure is None
