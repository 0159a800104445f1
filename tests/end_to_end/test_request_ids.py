"""A request's id: the same in the sidecar's access log and in the log of the Synapse process that answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import yaml
from processes import Running

from .access_log import INTERVAL, LIMIT
from .clients import in_event_loop, witness_of
from .exact_http import exchange
from .laboratory import Gateway
from .synapse_files import REQUEST_ID_HEADER

TARGET = "/_matrix/client/v3/login"
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.5"


async def told(log: Path, count: int) -> list[dict[str, Any]]:
    """So many lines of the access log."""
    for _ in range(int(LIMIT / INTERVAL)):
        lines = log.read_text().splitlines() if log.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        await asyncio.sleep(INTERVAL)
    raise AssertionError(f"the access log has fewer than {count} lines")


@in_event_loop
async def test_one_id_in_both_logs(gateways: dict[str, Gateway], tmp_path: Path) -> None:
    """A trusted peer chooses it; a stranger does not, even if it tries; and each is found in Synapse's log."""
    laboratory = gateways["three_lines"].laboratory
    log, etc = tmp_path / "access.log", laboratory.layout.root / "etc"
    settings = {
        "listen": "tcp:0:interface=127.0.0.1",
        "synapse": {"config": [str(etc / "homeserver.yaml"), str(etc / "conf.d")], "workers": [str(etc / "workers")]},
        "forwarded": {"trust": [TRUSTED]},
        "log": {"access": True, "format": "json", "file": str(log)},
    }
    (tmp_path / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    with Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path) as sidecar:
        _, port = sidecar.address()
        witness = witness_of(gateways["three_lines"])
        chosen, spoofed = witness.note(TRUSTED), "spoofed-by-a-stranger"
        await exchange(port, "GET", TARGET, [(REQUEST_ID_HEADER, chosen)], peer=TRUSTED)
        await exchange(port, "GET", TARGET, [(REQUEST_ID_HEADER, spoofed)], peer=STRANGER)
        await exchange(port, "GET", TARGET, [], peer=STRANGER)
        first, second, third = await told(log, 3)
    assert (first["id"], first["client"], first["endpoint"]) == (chosen, TRUSTED, "login")
    assert len({spoofed, second["id"], third["id"]}) == 3
    for line in (first, second, third):
        answer = await witness.logs.answer(line["id"])
        assert (answer.worker, answer.client, answer.status) == (line["worker"], line["client"], line["status"])
    for process in laboratory.topology.processes:
        assert spoofed not in laboratory.layout.log(process.name).read_text()
