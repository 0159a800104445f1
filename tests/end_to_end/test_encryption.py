"""End-to-end encryption between two users: keys go up, are found, are claimed, and open what was said."""

from __future__ import annotations

from pathlib import Path

from .clients import got, in_event_loop, nio, people, seen, shared_room, synced
from .laboratory import Gateway

ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


@in_event_loop
async def test_two_users_talk_encrypted(gateway: Gateway, tmp_path: Path) -> None:
    """A message that only the two devices can read arrives in clear, and Synapse has seen only ciphertext."""
    async with people(gateway, "alice", "bob", store=tmp_path) as (alice, bob):
        for person in (alice, bob):
            person.load_store()
            got(nio.KeysUploadResponse, await person.keys_upload())
        room = await shared_room(alice, bob, initial_state=[ENCRYPTED])
        await synced(bob, timeout=0)
        await synced(alice, timeout=0, full_state=True)
        got(nio.JoinedMembersResponse, await alice.joined_members(room))
        if alice.should_query_keys:
            got(nio.KeysQueryResponse, await alice.keys_query())
        sent = got(
            nio.RoomSendResponse,
            await alice.room_send(
                room, "m.room.message", {"msgtype": "m.text", "body": "for your eyes"}, ignore_unverified_devices=True
            ),
        )

        def decrypted(answer: nio.SyncResponse) -> nio.RoomMessageText | None:
            joined = answer.rooms.join.get(room)
            events = joined.timeline.events if joined else []
            return next((event for event in events if isinstance(event, nio.RoomMessageText)), None)

        message = await seen(bob, decrypted)
        assert (message.body, message.decrypted, message.event_id) == ("for your eyes", True, sent.event_id)
        stored = await bob.succeed("GET", f"/_matrix/client/v3/rooms/{room}/event/{sent.event_id}")
        assert stored["type"] == "m.room.encrypted"
        asked = {(answer.method, answer.target.rpartition("/")[2]) for answer in await alice.witness.check()}
        assert {("POST", "upload"), ("POST", "query"), ("POST", "claim")} <= asked
