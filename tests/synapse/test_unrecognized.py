"""Whose word an answer with M_UNRECOGNIZED is: held against the classes of the installed Synapse, and its table."""

from __future__ import annotations

import json

import pytest

from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.synapse.unrecognized import LONGEST, is_unrecognized, mounts, release_in

PUBLIC = b"/_matrix/client/v3/publicRooms"


def test_the_words_of_synapse() -> None:
    """They are those of its own error, and of one that it passes on: the octets cannot tell one from the other."""
    errors = pytest.importorskip("synapse.api.errors", reason="matrix-synapse is not installed")
    own = errors.UnrecognizedRequestError(code=404).error_dict(None)
    other = errors.ProxiedRequestError(404, own["error"], own["errcode"], {}).error_dict(None)
    assert own == other
    assert is_unrecognized(json.dumps(own).encode())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 200, b'{"errcode":"M_UNRECOGNIZED"}', b" " * LONGEST + b"{}"]
)
def test_other_words(content: bytes) -> None:
    """Any octets are judged."""
    assert not is_unrecognized(content)


@pytest.mark.parametrize(
    ("server", "release"),
    [
        (b"Synapse/1.163.2", "1.163"),
        (b"Synapse/1.99.0rc1 (b=develop,abcdef)", "1.99"),
        (b"Synapse/1.1634567", None),
        (b"nginx", None),
        (None, None),
    ],
)
def test_the_release_of_an_answer(server: bytes | None, release: str | None) -> None:
    """As Synapse writes it, with what a developer's copy adds."""
    assert release_in(server) == release


def test_what_workers_mount() -> None:
    """By method and by path, in every release that has it; of others nothing is known."""
    assert mounts("1.163", "public_room_list", b"POST", PUBLIC)
    assert mounts("1.163", "public_room_list", b"HEAD", PUBLIC)
    assert mounts("1.163", "public_room_list", b"DELETE", PUBLIC) is False
    assert mounts("1.163", "public_room_list", b"POST", PUBLIC + b"/x") is False
    assert mounts("1.163", "nothing", b"POST", PUBLIC) is False
    assert mounts("9.1", "public_room_list", b"POST", PUBLIC) is None


@pytest.mark.parametrize("release", ["1.100", "1.163"])
def test_every_row_matches_itself(release: str) -> None:
    """Whatever a pattern is made of, a path of its shape is found."""
    for row in load_endpoints(release).endpoints:
        segments = [
            segment.strip("{}").split("|")[0] if "|" in segment else segment.replace("**", "a/b")
            for segment in row.path
        ]
        path = "/" + "/".join(segments)
        for method in row.methods:
            assert mounts(release, row.name, method.encode(), path.encode()) or not row.worker_resources, path
