"""Rooms: created, joined, talked in, read back, left."""

from __future__ import annotations

from urllib.parse import quote

from .clients import eventually, got, in_event_loop, nio, people, say, seen, shared_room, synced
from .laboratory import Gateway

V3 = "/_matrix/client/v3"


@in_event_loop
async def test_rooms_have_ids_without_a_domain_and_are_joined_by_id_and_by_alias(gateway: Gateway) -> None:
    """A version 12 room is created, joined by its id and by its alias, and lists its members."""
    async with people(gateway, "alice", "bob", "carol") as (alice, bob, carol):
        alias = f"meeting-{alice.user}"
        room = await shared_room(alice, bob, alias=alias, visibility=nio.RoomVisibility.public)
        assert ":" not in room
        found = got(nio.RoomResolveAliasResponse, await carol.room_resolve_alias(f"#{alias}:lab.test"))
        assert found.room_id == room
        await carol.succeed("POST", f"{V3}/join/{quote(f'#{alias}:lab.test', safe='')}", {})
        members = got(nio.JoinedMembersResponse, await alice.joined_members(room)).members
        assert {member.user_id for member in members} == {alice.user_id, bob.user_id, carol.user_id}
        assert got(nio.JoinedRoomsResponse, await carol.joined_rooms()).rooms == [room]
        await eventually(lambda: bob.succeed("GET", f"{V3}/publicRooms"), lambda list_: room in str(list_))
        await carol.succeed("GET", f"{V3}/directory/list/room/{quote(room)}")


@in_event_loop
async def test_members_come_and_go(gateway: Gateway) -> None:
    """Invite, kick, ban, unban, leave, knock and forget work, each on the process that has it."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice)
        got(nio.RoomInviteResponse, await alice.room_invite(room, bob.user_id))
        got(nio.JoinResponse, await bob.join(room))
        got(nio.RoomKickResponse, await alice.room_kick(room, bob.user_id))
        got(nio.RoomBanResponse, await alice.room_ban(room, bob.user_id))
        got(nio.RoomUnbanResponse, await alice.room_unban(room, bob.user_id))
        await alice.succeed("PUT", f"{V3}/rooms/{quote(room)}/state/m.room.join_rules/", {"join_rule": "knock"})
        got(nio.RoomKnockResponse, await bob.room_knock(room))
        got(nio.RoomInviteResponse, await alice.room_invite(room, bob.user_id))
        got(nio.JoinResponse, await bob.join(room))
        got(nio.RoomLeaveResponse, await bob.room_leave(room))
        got(nio.RoomForgetResponse, await bob.room_forget(room))


@in_event_loop
async def test_a_room_is_read_back_page_by_page(gateway: Gateway) -> None:
    """Pagination in both directions gives all messages in order, and one worker answers all of it."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        said = [await say(alice, room, f"message {number}") for number in range(12)]
        await synced(bob, timeout=0)
        read: list[str] = []
        start: str | None = None
        while len(read) < len(said):
            page = got(nio.RoomMessagesResponse, await bob.room_messages(room, start, limit=5))
            read += [event.event_id for event in page.chunk if isinstance(event, nio.RoomMessageText)]
            start = page.end
        assert read == said[::-1]
        forward = got(
            nio.RoomMessagesResponse,
            await bob.room_messages(room, start, direction=nio.MessageDirection.front, limit=50),
        )
        assert [event.event_id for event in forward.chunk if event.event_id in said] == [
            event.event_id for event in forward.chunk if isinstance(event, nio.RoomMessageText)
        ]


@in_event_loop
async def test_events_state_threads_and_relations_are_found(gateway: Gateway) -> None:
    """What hangs on a room and on one event is found: state, context, relations, threads, members, hierarchy."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob, name="The hall")
        root = await say(alice, room, "the root")
        reply = {
            "msgtype": "m.text",
            "body": "a reply",
            "m.relates_to": {"rel_type": "m.thread", "event_id": root},
        }
        answer = got(nio.RoomSendResponse, await bob.room_send(room, "m.room.message", reply)).event_id
        path, event = f"{V3}/rooms/{quote(room)}", quote(root)
        got(nio.RoomPutStateResponse, await alice.room_put_state(room, "m.room.topic", {"topic": "walls"}))
        topic = got(nio.RoomGetStateEventResponse, await bob.room_get_state_event(room, "m.room.topic"))
        assert topic.content["topic"] == "walls"
        assert got(nio.RoomGetStateResponse, await bob.room_get_state(room)).events
        assert got(nio.RoomGetEventResponse, await bob.room_get_event(room, root)).event.body == "the root"
        assert got(nio.RoomContextResponse, await bob.room_context(room, root)).event.event_id == root
        related = await bob.succeed("GET", f"/_matrix/client/v1/rooms/{quote(room)}/relations/{event}/m.thread")
        assert [entry["event_id"] for entry in related["chunk"]] == [answer]
        threads = await bob.succeed("GET", f"/_matrix/client/v1/rooms/{quote(room)}/threads")
        assert [entry["event_id"] for entry in threads["chunk"]] == [root]
        assert await bob.succeed("GET", f"/_matrix/client/v1/rooms/{quote(room)}/hierarchy")
        assert await bob.succeed("GET", f"{path}/members?membership=join")
        assert await bob.succeed("GET", f"{path}/aliases") == {"aliases": []}
        assert (await bob.succeed("GET", f"{path}/initialSync"))["room_id"] == room
        await bob.succeed("POST", f"{path}/report/{event}", {"reason": "only a test"})


@in_event_loop
async def test_a_redacted_message_loses_its_words(gateway: Gateway) -> None:
    """A redaction reaches the other user, and the event is empty afterwards."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        message = await say(alice, room, "better unsaid")
        await synced(bob, timeout=0)
        got(nio.RoomRedactResponse, await alice.room_redact(room, message, reason="regret"))

        def redaction(sync: nio.SyncResponse) -> str | None:
            joined = sync.rooms.join.get(room)
            events = joined.timeline.events if joined else []
            return next((event.redacts for event in events if isinstance(event, nio.RedactionEvent)), None)

        assert await seen(bob, redaction) == message
        event = await bob.succeed("GET", f"{V3}/rooms/{quote(room)}/event/{quote(message)}")
        assert event["content"] == {}


@in_event_loop
async def test_words_rooms_and_people_are_searched_for(gateway: Gateway) -> None:
    """Message search finds what was said, the user directory finds who is there."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        message = await say(alice, room, "a capybara in the bath")
        query = {"search_categories": {"room_events": {"search_term": "capybara", "filter": {"rooms": [room]}}}}
        found = await bob.succeed("POST", f"{V3}/search", query)
        results = found["search_categories"]["room_events"]["results"]
        assert [result["result"]["event_id"] for result in results] == [message]
        wanted = {"search_term": bob.user}
        directory = await eventually(
            lambda: alice.succeed("POST", f"{V3}/user_directory/search", wanted), lambda answer: answer["results"]
        )
        assert bob.user_id in {entry["user_id"] for entry in directory["results"]}
