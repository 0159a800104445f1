"""The requests and answers of the benchmark, as bytes. Opens nothing."""

from __future__ import annotations

import base64
import itertools
import random
import zlib
from collections.abc import Iterator

MIB = 1024 * 1024
GIB = 1024 * MIB
MEDIA_SIZE = 64 * MIB

_FILLER = b"A" * 900
ANSWER_BODY = (
    b'{"next_batch":"s72595_4483_1934_215_64_12_7_3","device_one_time_keys_count":{"signed_curve25519":50},"filler":"'
    + _FILLER
    + b'"}'
).ljust(1024)
ANSWER_TAIL = ANSWER_BODY[-16:]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def answer(body: bytes = ANSWER_BODY, media_type: bytes = b"application/json") -> bytes:
    """A 200 with the fields that Synapse sends with every answer."""
    return answer_head(len(body), media_type) + body


def answer_head(length: int, media_type: bytes) -> bytes:
    """The head of `answer`, for a body of `length` bytes that is sent apart."""
    return (
        b"HTTP/1.1 200 OK\r\nServer: Synapse/1.163.2\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\n"
        b"Content-Type: %b\r\nCache-Control: no-cache, no-store, must-revalidate\r\n"
        b"Access-Control-Allow-Origin: *\r\n"
        b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n"
        b"Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization, Date\r\n"
        b"Content-Length: %d\r\n\r\n"
    ) % (media_type, length)


def token(user: str) -> str:
    """An access token of the form that Synapse gives to `user` (a localpart): `syt_<base64>_<random>_<crc32>`."""
    localpart = base64.b64encode(user.encode()).decode().rstrip("=")
    letters = "".join(random.Random(user).choices(_BASE62[10:], k=20))
    stem = f"syt_{localpart}_{letters}"
    return f"{stem}_{_base62(zlib.crc32(stem.encode())):0>6}"


def request(method: str, target: str, user: str, *more: str) -> bytes:
    """A request head as a browser sends it, about 500 bytes."""
    lines = (
        f"{method} {target} HTTP/1.1",
        "Host: matrix.example.org",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Accept: application/json",
        "Accept-Language: en-GB,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        f"Authorization: Bearer {token(user)}",
        "Origin: https://app.element.io",
        "Referer: https://app.element.io/",
        "Connection: keep-alive",
        *more,
    )
    return "\r\n".join((*lines, "", "")).encode()


def small_requests(users: int = 512) -> tuple[bytes, ...]:
    """Four different GETs of each user, so that nothing is won by remembering the last request."""
    return tuple(
        request("GET", target, f"user{number}")
        for number in range(users)
        for target in (
            f"/_matrix/client/v3/sync?filter=0&timeout=0&since=s{number}_4483_1934_215_64_12_7_3",
            f"/_matrix/client/v3/profile/%40user{number}%3Aexample.org",
            f"/_matrix/client/v3/rooms/!room{number}%3Aexample.org/messages?dir=b&limit=20&from=t{number}-1_0",
            f"/_matrix/client/v3/keys/changes?from=s{number}_1&to=s{number}_2",
        )
    )


def long_polls() -> Iterator[bytes]:
    """One `/sync` after the other that a worker holds, each of another user."""
    for number in itertools.count():
        yield request("GET", f"/_matrix/client/v3/sync?filter=0&timeout=30000&since=s{number}_1", f"user{number}")


def download_request() -> bytes:
    """Asks for `media()`."""
    return request("GET", "/_matrix/client/v1/media/download/example.org/benchmark", "alice")


def upload_head() -> bytes:
    """The head of a request that carries `media()`."""
    length = f"Content-Length: {MEDIA_SIZE}"
    return request("POST", "/_matrix/media/v3/upload", "alice", "Content-Type: application/octet-stream", length)


def media() -> bytes:
    """`MEDIA_SIZE` bytes without a period, the same in every process."""
    return random.Random(64).randbytes(MEDIA_SIZE)


def _base62(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
