"""What users keep for themselves: account data, tags, filters, push rules, messages between devices."""

from __future__ import annotations

from urllib.parse import quote

from .clients import eventually, got, in_event_loop, nio, people, say, seen, shared_room, synced
from .laboratory import Gateway

V3 = "/_matrix/client/v3"


@in_event_loop
async def test_account_data_and_tags_are_kept(gateway: Gateway) -> None:
    """Account data of a user and of a room and a room's tags are read as written, and come with sync."""
    async with people(gateway, "alice") as (alice,):
        room = await shared_room(alice)
        me = f"{V3}/user/{quote(alice.user_id)}"
        await alice.succeed("PUT", f"{me}/account_data/test.lab.colour", {"colour": "green"})
        assert await alice.succeed("GET", f"{me}/account_data/test.lab.colour") == {"colour": "green"}
        await alice.succeed("PUT", f"{me}/rooms/{quote(room)}/account_data/test.lab.mood", {"mood": "calm"})
        assert await alice.succeed("GET", f"{me}/rooms/{quote(room)}/account_data/test.lab.mood") == {"mood": "calm"}
        await alice.succeed("PUT", f"{me}/rooms/{quote(room)}/tags/m.favourite", {"order": 0.5})
        assert await alice.succeed("GET", f"{me}/rooms/{quote(room)}/tags") == {"tags": {"m.favourite": {"order": 0.5}}}
        first = await synced(alice, timeout=0)
        assert any(isinstance(event, nio.TagEvent) for event in first.rooms.join[room].account_data)
        await alice.succeed("DELETE", f"{me}/rooms/{quote(room)}/tags/m.favourite")
        assert await alice.succeed("GET", f"{me}/rooms/{quote(room)}/tags") == {"tags": {}}


@in_event_loop
async def test_a_transaction_id_or_key_that_looks_like_an_endpoint_chooses_nothing(gateway: Gateway) -> None:
    """Transaction ids and types named after other endpoints leave the request where it belongs."""
    async with people(gateway, "alice") as (alice,):
        room = await shared_room(alice)
        me, there = f"{V3}/user/{quote(alice.user_id)}", f"{V3}/rooms/{quote(room)}"
        text = {"msgtype": "m.text", "body": "decoy"}
        for name in ("tags", "account_data", "typing", "receipt", "sync", "pushrules"):
            await alice.succeed("PUT", f"{there}/send/m.room.message/{name}", text)
            await alice.succeed("PUT", f"{there}/state/test.lab.decoy/{name}", {"on": True})
            await alice.succeed("PUT", f"{me}/account_data/{name}", {})


@in_event_loop
async def test_filters_are_stored(gateway: Gateway) -> None:
    """A filter that was uploaded is found under its id."""
    async with people(gateway, "alice") as (alice,):
        stored = got(nio.UploadFilterResponse, await alice.upload_filter(room={"timeline": {"limit": 3}}))
        found = await alice.succeed("GET", f"{V3}/user/{quote(alice.user_id)}/filter/{stored.filter_id}")
        assert found["room"]["timeline"] == {"limit": 3}


@in_event_loop
async def test_push_rules_are_written_and_read(gateway: Gateway) -> None:
    """A push rule is added, seen, switched off, changed and deleted."""
    async with people(gateway, "alice") as (alice,):
        rule = f"{V3}/pushrules/global/content/lab"
        await alice.succeed("PUT", rule, {"pattern": "lab", "actions": ["notify"]})
        await eventually(lambda: alice.ask("GET", rule), lambda reply: reply.status == 200)
        got(nio.EnablePushRuleResponse, await alice.enable_pushrule("global", nio.PushRuleKind.content, "lab", False))
        await eventually(lambda: alice.succeed("GET", f"{rule}/enabled"), lambda answer: answer == {"enabled": False})
        await alice.succeed("PUT", f"{rule}/actions", {"actions": []})
        await alice.succeed("DELETE", rule)
        await eventually(lambda: alice.ask("GET", rule), lambda reply: reply.status == 404)


@in_event_loop
async def test_messages_between_devices_arrive(gateway: Gateway) -> None:
    """A to-device message that one user sends comes with the other one's sync, once."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        await synced(bob, timeout=0)
        message = nio.ToDeviceMessage("test.lab.ping", bob.user_id, bob.device_id, {"number": 7})
        got(nio.ToDeviceResponse, await alice.to_device(message))
        event = await seen(bob, lambda answer: next(iter(answer.to_device_events), None))
        assert (event.sender, event.source["content"]) == (alice.user_id, {"number": 7})
        assert not (await synced(bob, timeout=0)).to_device_events


@in_event_loop
async def test_a_thread_is_subscribed_to(gateway: Gateway) -> None:
    """A thread subscription is written, read and deleted."""
    async with people(gateway, "alice") as (alice,):
        room = await shared_room(alice)
        root = await say(alice, room, "a thread begins")
        thread = f"/_matrix/client/unstable/io.element.msc4306/rooms/{quote(room)}/thread/{quote(root)}/subscription"
        await alice.succeed("PUT", thread, {})
        await eventually(lambda: alice.ask("GET", thread), lambda reply: reply.status == 200)
        await alice.succeed("DELETE", thread)
        await eventually(lambda: alice.ask("GET", thread), lambda reply: reply.status == 404)
