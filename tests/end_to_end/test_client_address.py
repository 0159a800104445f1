"""The client's address: Synapse logs the real one, whoever claims what."""

from __future__ import annotations

import pytest

from .clients import in_event_loop, witness_of
from .exact_http import exchange
from .laboratory import Gateway
from .synapse_files import REQUEST_ID_HEADER

TARGET = "/_matrix/client/v3/login"
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.5"


@pytest.mark.parametrize(
    ("peer", "claims", "client"),
    [
        pytest.param(STRANGER, [], STRANGER, id="the peer itself"),
        pytest.param(TRUSTED, ["198.51.100.7"], "198.51.100.7", id="said by a trusted peer"),
        pytest.param(TRUSTED, ["6.6.6.6, 198.51.100.7"], "198.51.100.7", id="rightmost, not what a client put first"),
        pytest.param(TRUSTED, ["6.6.6.6", "198.51.100.7"], "198.51.100.7", id="in the last of two lines"),
        pytest.param(TRUSTED, ["2001:db8::7"], "2001:db8::7", id="IPv6"),
    ],
)
@in_event_loop
async def test_synapse_logs_the_real_client(gateway: Gateway, peer: str, claims: list[str], client: str) -> None:
    """The rightmost untrusted address is the client, and the only one that Synapse sees."""
    await _ask(gateway, peer, claims, client)


@in_event_loop
async def test_a_stranger_is_not_believed(gateway: Gateway) -> None:
    """A peer that is not trusted is the client, whatever it says."""
    trusts_all_loopback = gateway.configuration == "three_lines"
    await _ask(gateway, STRANGER, ["198.51.100.7"], "198.51.100.7" if trusts_all_loopback else STRANGER)


@in_event_loop
async def test_synapse_is_told_the_scheme(gateway: Gateway) -> None:
    """No process of Synapse warns that it was told the client's address but not the scheme, and so has to guess."""
    layout, topology = gateway.laboratory.layout, gateway.laboratory.topology
    logs = [layout.log(process.name) for process in topology.processes]
    before = [log.stat().st_size for log in logs]
    await _ask(gateway, STRANGER, [], STRANGER)
    if gateway.configuration == "three_lines":
        # A proxy that says nothing of it: what `public_baseurl` says.
        await _ask(gateway, TRUSTED, ["198.51.100.7"], "198.51.100.7")
    for log, size in zip(logs, before, strict=True):
        assert b"lacks an x-forwarded-proto" not in log.read_bytes()[size:]


async def _ask(gateway: Gateway, peer: str, claims: list[str], client: str) -> None:
    witness = witness_of(gateway)
    fields = [(REQUEST_ID_HEADER, witness.note(client)), *(("X-Forwarded-For", claim) for claim in claims)]
    assert (await exchange(gateway.port, "GET", TARGET, fields, peer=peer)).status == 200
    await witness.check()
