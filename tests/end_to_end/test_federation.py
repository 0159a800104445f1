"""Federation: signed requests whose signature covers the request-target as it was sent, byte for byte."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .clients import Person, in_event_loop, people, say, shared_room
from .exact_http import Reply
from .laboratory import Gateway
from .signing import signer
from .synapse_files import SERVER_NAME


async def signed(person: Person, method: str, target: str, content: Any = None) -> Reply:
    """Ask as a server would that holds this server's own key, which Synapse verifies without asking anybody."""
    sign = signer(person.witness.gateway.laboratory.layout)
    return await person.ask(method, target, content, authorization=sign(method, target, content))


@in_event_loop
async def test_a_signed_request_arrives_in_the_spelling_that_was_signed(gateway: Gateway) -> None:
    """Whether ids are percent-encoded, in either case, or not at all: the signature still fits."""
    async with people(gateway, "alice") as (alice,):
        room = await shared_room(alice)
        event = await say(alice, room, "signed")
        for spelling in (event, quote(event, safe=""), f"{event}?", f"{event}?x=%2f&y=%2F&z=a?b", f"{event}?&&="):
            target = f"/_matrix/federation/v1/event/{spelling}"
            reply = await signed(alice, "GET", target)
            assert reply.status == 200, (target, reply.body)
            assert reply.json["pdus"][0]["content"]["body"] == "signed"
            assert (await alice.witness.logs.answer(alice.witness.newest)).target == target
        for user in (alice.user_id, quote(alice.user_id, safe=""), quote(alice.user_id).replace("%3A", "%3a")):
            reply = await signed(alice, "GET", f"/_matrix/federation/v1/query/profile?user_id={user}")
            assert reply.json == {"displayname": alice.user}


@in_event_loop
async def test_a_transaction_of_another_server_is_taken(gateway: Gateway) -> None:
    """A signed transaction is answered, and so are version and keys, which nobody signs."""
    async with people(gateway, "alice") as (alice,):
        body = {"origin": SERVER_NAME, "origin_server_ts": 0, "pdus": [], "edus": []}
        taken = await signed(alice, "PUT", "/_matrix/federation/v1/send/transaction-1", body)
        assert (taken.status, taken.json) == (200, {"pdus": {}})
        version = await alice.ask("GET", "/_matrix/federation/v1/version", authorization="")
        assert version.json["server"]["name"] == "Synapse"
        keys = await alice.ask("GET", "/_matrix/key/v2/server", authorization="")
        assert keys.json["server_name"] == SERVER_NAME
        refused = await alice.ask("GET", "/_matrix/federation/v1/query/profile?user_id=@x:lab.test", authorization="")
        assert refused.status == 401
