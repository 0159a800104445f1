"""Every endpoint that workers mount, through the sidecar and at main's own socket, with valid authentication.

Nowhere may the sidecar's answer be 5xx or `M_UNRECOGNIZED` where main's is not: that is the mark of an endpoint which
a worker mounts and cannot answer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from sidecar.synapse.endpoint_rows import load_endpoints

from .children import ask
from .laboratory import PASSWORD, Gateway, running_sidecar, running_synapse
from .services import Services
from .signing import Signer, signer
from .sweep import Known, Request, requests
from .synapse_files import SERVER_NAME
from .topology import STREAMS, Process, Topology

V3 = "/_matrix/client/v3"
PATIENCE = 40.0
FLAGS = frozenset(
    need for row in load_endpoints().endpoints if "mas" not in row.needs for need in row.needs if need.startswith("msc")
)
SECRET = "a secret for administrators"
SWEPT = Topology(
    name="swept",
    processes=(
        Process("main", ("client", "federation")),
        Process("client1", ("client",)),
        Process("fed1", ("federation", "openid")),
        Process("media1", ("media",), ("quarantined_media_changes",)),
        Process("writer1", ("client",), STREAMS),
        Process("event1", ("client",), ("events",)),
    ),
    pools={},
)
SHARED = {
    "experimental_features": dict.fromkeys(sorted(FLAGS), True),
    "registration_shared_secret": SECRET,
}


@pytest.fixture(scope="module")
def swept(services: Services) -> Iterator[Gateway]:
    with ExitStack() as stack:
        laboratory = stack.enter_context(running_synapse(services, SWEPT, SHARED))
        settings = {"access": {"admin": ["127.0.0.0/8"]}}
        yield stack.enter_context(running_sidecar(laboratory, "three_lines", settings=settings))


@frozen
class Side:
    """One way to ask, as one user, who is an administrator and alone in a room."""

    address: Path | tuple[str, int]
    token: str
    known: Known
    sign: Signer

    def answer(self, request: Request) -> tuple[int, str]:
        """Status and errcode."""
        authorization = ""
        if request.credentials == "server":
            authorization = self.sign(request.method, request.target, request.content)
        status, body = ask(
            self.address,
            request.method,
            request.target,
            request.content,
            token=self.token if request.credentials == "user" else "",
            authorization=authorization,
            patience=PATIENCE,
        )
        try:
            answer = json.loads(body)
        except ValueError:
            return status, ""
        return status, str(answer.get("errcode", "")) if isinstance(answer, dict) else ""


def side(gateway: Gateway, address: Path | tuple[str, int], name: str) -> Side:
    main = gateway.laboratory.layout.socket("main")

    def got(method: str, target: str, content: Any = None) -> Any:
        status, body = ask(
            ("127.0.0.1", gateway.port), method, target, content, token=person["access_token"], patience=PATIENCE
        )
        assert status == 200, (method, target, body)
        return json.loads(body)

    person = _administrator(main, name)
    user = person["user_id"]
    created = got("POST", f"{V3}/createRoom", {"room_alias_name": name, "name": "Sweep", "preset": "public_chat"})
    room = created["room_id"]
    for target in (
        f"{V3}/rooms/{room}/state/test.lab.sweep",
        f"{V3}/rooms/{room}/state/test.lab.sweep/sweep",
        f"{V3}/user/{user}/account_data/test.lab.sweep",
        f"{V3}/user/{user}/rooms/{room}/account_data/test.lab.sweep",
    ):
        got("PUT", target, {"any": "thing"})
    backup = got("POST", f"{V3}/room_keys/version", {"algorithm": "m.megolm_backup.v1", "auth_data": {}})
    known = Known(
        user=user,
        room=room,
        event=got("PUT", f"{V3}/rooms/{room}/send/test.lab.event/first", {"body": "1"})["event_id"],
        device=person["device_id"],
        filter=got("POST", f"{V3}/user/{user}/filter", {})["filter_id"],
        media=got("POST", "/_matrix/media/v3/upload", {"any": "file"})["content_uri"].rpartition("/")[2],
        server=SERVER_NAME,
        openid=got("POST", f"{V3}/user/{user}/openid/request_token", {})["access_token"],
        backup=backup["version"],
        name=name,
    )
    return Side(address, person["access_token"], known, signer(gateway.laboratory.layout))


def _administrator(main: Path, name: str) -> Any:
    nonce = json.loads(ask(main, "GET", "/_synapse/admin/v1/register", patience=PATIENCE)[1])["nonce"]
    parts = "\0".join((nonce, name, PASSWORD, "admin"))
    mac = hmac.new(SECRET.encode(), parts.encode(), hashlib.sha1).hexdigest()
    content = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": True, "mac": mac}
    status, body = ask(main, "POST", "/_synapse/admin/v1/register", content, patience=PATIENCE)
    assert status == 200, body
    return json.loads(body)


def test_nowhere_does_a_worker_fail_where_main_does_not(swept: Gateway) -> None:
    """All rows of the newest release, under all experimental features; not what single sign-on, MAS and email bring."""
    swept.wait_for_all()
    ours = side(swept, ("127.0.0.1", swept.port), "through")
    mains = side(swept, swept.laboratory.layout.socket("main"), "direct")
    features = FLAGS | {"media_repo", "not_mas"}
    pairs = zip(requests(ours.known, features), requests(mains.known, features), strict=True)
    answers = {one.id: (ours.answer(one), mains.answer(other)) for one, other in pairs}
    wrong = {name: pair for name, pair in answers.items() if is_failure(pair[0]) and not is_failure(pair[1])}
    refused = {name: pair for name, pair in answers.items() if pair[0][0] >= 400}
    for name, pair in refused.items():
        print(f"no valid request: {name}: {pair[0]}, main {pair[1]}")
    assert wrong == {}
    assert len(answers) > 270
    assert len(answers) - len(refused) > 170
    assert answers["GET /_matrix/federation/v1/openid/userinfo"][0] == (200, "")
    asked = next(each for each in requests(ours.known, features) if each.row.name == "open_id_user_info")
    at_worker = evolve(ours, address=swept.laboratory.layout.socket("fed1"))
    assert at_worker.answer(asked)[0] == 500, "a worker answers it now: the overlay can let workers have it"
    assert answers["GET /_matrix/federation/unstable/org.matrix.msc4370/extremities/{room_id}"][0] == (200, "")


def is_failure(answer: tuple[int, str]) -> bool:
    status, errcode = answer
    return status >= 500 or errcode == "M_UNRECOGNIZED"
