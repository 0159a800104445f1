"""Writes of a stream whose writer is killed: they wait for it, and nobody else answers them; reads go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from signal import SIGKILL
from urllib.parse import quote

import pytest

from .clients import Person, in_event_loop, people, shared_room
from .expectations import persister
from .laboratory import Gateway
from .topology import Configuration

V3 = "/_matrix/client/v3"


def _account_data(person: Person, _: str) -> str:
    return f"{V3}/user/{quote(person.user_id)}/account_data/test.lab.colour"


def _presence(person: Person, _: str) -> str:
    return f"{V3}/presence/{quote(person.user_id)}/status"


def _device(person: Person, _: str) -> str:
    return f"{V3}/devices/{quote(person.device_id)}"


def _send(_: Person, room: str) -> str:
    return f"{V3}/rooms/{quote(room)}/send/m.room.message/while-away"


WRITES = {
    "accountdata1": (_account_data, {"colour": "green"}, True),
    "presence1": (_presence, {"presence": "online"}, False),
    "devicelists1": (_device, {"display_name": "another name"}, True),
    "persister": (_send, {"msgtype": "m.text", "body": "while you were away"}, False),
}
"""By writer: what is written where, and whether others answer reads of it."""


@pytest.mark.parametrize("gateways", ["split"], indirect=True)
@pytest.mark.parametrize("writer", WRITES)
@in_event_loop
async def test_a_write_waits_for_its_writer(gateways: Mapping[Configuration, Gateway], writer: str) -> None:
    """The writer itself answers when it is back. A substitute would have asked it, and backed off for longer."""
    gateway = gateways["three_lines"]
    gateway.wait_for_all()
    target_of, content, readable = WRITES[writer]
    async with people(gateway, "alice") as (alice,):
        laboratory, witness = gateway.laboratory, alice.witness
        room = await shared_room(alice)
        name = persister(laboratory.topology, room) if writer == "persister" else writer
        target = target_of(alice, room)
        await alice.succeed("PUT", target.replace("while-away", "before"), content)
        laboratory.end(name, SIGKILL)
        written = asyncio.create_task(alice.ask("PUT", target, content))
        await asyncio.sleep(0)
        write = witness.newest
        if readable:
            assert (await alice.ask("GET", target)).status == 200
            assert (await witness.logs.answer(witness.newest)).worker != name
            witness.forget(witness.newest)
        assert not written.done()
        laboratory.start(name)
        reply = await written
        assert reply.status == 200, reply.body
        assert (await witness.logs.answer(write)).worker == name
