"""Sync: long polls that wait, what wakes them, and who answers them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .clients import Person, got, in_event_loop, nio, people, say, seen, shared_room, synced
from .laboratory import Gateway

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
POLL = 30_000


async def waiting_poll(person: Person) -> asyncio.Task[Any]:
    """A long poll that has arrived at its worker and waits there."""
    poll = asyncio.create_task(person.sync(timeout=POLL))
    await asyncio.sleep(0)
    await person.witness.logs.received_by(person.witness.newest)
    return poll


@in_event_loop
async def test_a_long_poll_is_woken_by_a_message_of_another_user(gateway: Gateway) -> None:
    """A sync that waits at its worker is answered with a message sent meanwhile, well before its time is up."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        await synced(bob, timeout=0)
        poll = await waiting_poll(bob)
        assert not poll.done()
        message = await say(alice, room, "wake up")
        answer = got(nio.SyncResponse, await poll)
        assert [event.event_id for event in answer.rooms.join[room].timeline.events] == [message]


@in_event_loop
async def test_typing_receipts_and_presence_reach_the_other_user(gateway: Gateway) -> None:
    """What passes and is not stored is seen in the other user's sync: typing, a receipt, presence."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        message = await say(alice, room, "read me")
        await synced(alice, timeout=0)
        await synced(bob, timeout=0)

        got(nio.RoomTypingResponse, await bob.room_typing(room))
        assert await seen(alice, lambda answer: _ephemeral(answer, room, nio.TypingNoticeEvent))
        got(nio.UpdateReceiptMarkerResponse, await bob.update_receipt_marker(room, message))
        receipt = await seen(alice, lambda answer: _ephemeral(answer, room, nio.ReceiptEvent))
        assert [(entry.event_id, entry.user_id) for entry in receipt.receipts] == [(message, bob.user_id)]
        got(nio.RoomReadMarkersResponse, await alice.room_read_markers(room, message, read_event=message))

        got(nio.responses.PresenceSetResponse, await bob.set_presence("unavailable", "asleep"))
        presence = await seen(alice, lambda answer: _presence(answer, bob.user_id, "unavailable"))
        assert presence.status_msg == "asleep"
        asked = got(nio.responses.PresenceGetResponse, await alice.get_presence(bob.user_id))
        assert asked.status_msg == "asleep"


def _ephemeral(answer: Any, room: str, kind: type[Any]) -> Any:
    joined = answer.rooms.join.get(room)
    return next((event for event in joined.ephemeral if isinstance(event, kind)), None) if joined else None


def _presence(answer: Any, user_id: str, state: str) -> Any:
    events = answer.presence_events
    return next((event for event in events if (event.user_id, event.presence) == (user_id, state)), None)


@in_event_loop
async def test_sliding_sync_gives_the_rooms_and_goes_on_where_it_was(gateway: Gateway) -> None:
    """A sliding sync lists the room, and the next one with its position brings the new message."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob, name="Sliding")
        window = {"ranges": [[0, 9]], "timeline_limit": 5, "required_state": [["m.room.name", ""]]}
        first = await bob.succeed("POST", SLIDING, {"lists": {"all": window}})
        assert first["rooms"][room]["name"] == "Sliding"
        message = await say(alice, room, "on it goes")
        again = await bob.succeed("POST", f"{SLIDING}?pos={first['pos']}&timeout=10000", {"lists": {"all": window}})
        assert again["rooms"][room]["timeline"][-1]["event_id"] == message


@in_event_loop
async def test_old_and_new_ways_to_sync_from_the_start_work(gateway: Gateway) -> None:
    """A sync without a position and one with the full state both give the whole room."""
    async with people(gateway, "alice") as (alice,):
        room = await shared_room(alice, name="All of it")
        first = await synced(alice, timeout=0)
        assert room in first.rooms.join
        whole = await synced(alice, full_state=True)
        assert any(isinstance(event, nio.RoomCreateEvent) for event in whole.rooms.join[room].state)


@in_event_loop
async def test_a_client_that_goes_away_takes_its_long_poll_with_it(gateway: Gateway) -> None:
    """When the client hangs up, the worker sees its own connection end and gives the poll up."""
    async with people(gateway, "alice") as (alice,):
        since = (await synced(alice, timeout=0)).next_batch
        target = f"/_matrix/client/v3/sync?since={since}&timeout={POLL}"
        poll = asyncio.create_task(alice.ask("GET", target))
        await asyncio.sleep(0)
        request_id = alice.witness.newest
        worker = await alice.witness.logs.received_by(request_id)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        assert await alice.witness.logs.abandoned_at(request_id) == worker
        alice.witness.forget(request_id)


@in_event_loop
async def test_users_are_spread_over_the_sync_workers(gateway: Gateway) -> None:
    """A dozen users use every worker that shares the syncs, and each stays with one.

    That is half of the workers, unless the configuration names them.
    """
    async with people(gateway, *(f"walrus{number}" for number in range(12))) as herd:
        for _ in range(2):
            for person in herd:
                await synced(person, timeout=0)
        answers = [answer for answer in await herd[0].witness.check() if "since=" in answer.target]
        pool = gateway.laboratory.topology.pools[gateway.configuration]["sync"]
        used = {answer.worker for answer in answers}
        assert used <= set(pool)
        assert len(used) == (len(pool) if gateway.configuration == "explicit" else (len(pool) + 1) // 2)
