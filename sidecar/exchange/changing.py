"""What is changed in one exchange: its path, the head of its answer, the coding of its content.

The plan says what may be changed, as `Changes`; this decides it for one request and its answer.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from sidecar.config.compression import Compress
from sidecar.exchange.coding import Coder, accepts_gzip
from sidecar.wire.framing import CHUNKED, UNTIL_CLOSE
from sidecar.wire.head import RequestHead, ResponseHead

_CODED_STATUSES: Final = frozenset((200, 201, 202, 203))
_NOT_MODIFIED: Final = 304
_ENTITY_TAG: Final = re.compile(rb'"[\x21\x23-\x7e\x80-\xff]*"')
_WEAK_TAG: Final = re.compile(rb'W/("[\x21\x23-\x7e\x80-\xff]*")')
_MOST_TAGS: Final = 32
"""Entity tags of one line that get a second form. Browsers send one; a cache may send some."""
_VARY: Final = b"Accept-Encoding"

_OTHER_CONTENT: Final = (
    *(b"content-encoding", b"content-range", b"content-digest", b"digest", b"content-md5", b"trailer", b"set-cookie"),
)
"""Content with one of these is coded already, a part, has a checksum, or is for one browser's session."""


@frozen(slots=True)
class Changes:
    """What may be changed of the requests of one step of the plan."""

    strip: bytes = b""
    """What is cut from the beginning of the path; then `add` is put there."""
    add: bytes = b""
    compress: Compress | None = None
    """How answers are compressed."""


class Changing:
    """What is changed of one exchange."""

    __slots__ = ("_changes", "_compress", "_doubled", "_gzip", "_host", "_may_code", "_method", "_tags")

    def __init__(self, changes: Changes, head: RequestHead) -> None:
        fields = head.fields
        compress = changes.compress
        if compress is not None and fields.get(b"cookie") is not None:
            # A page of another site can make a browser send requests with cookies, as often as it wants (BREACH).
            compress = None
        self._changes = changes
        self._compress: Compress | None = compress
        self._method = head.method
        self._host = (fields.host or b"").lower()
        self._gzip = compress is not None and head.http11 and accepts_gzip(fields.get_all(b"accept-encoding"))
        self._tags = b", ".join(fields.get_all(b"if-none-match")) if self._gzip else b""
        self._doubled = False
        self._may_code = True

    def leave_uncompressed(self) -> None:
        """Do not compress, because too many answers are being compressed."""
        self._may_code = False

    # The request.

    def request(self, raw: bytes, most: int) -> bytes:
        """The head that goes to the worker, made from `raw`.

        Entity tags are added in their second form only if the head has at most `most` bytes then.
        """
        changes = self._changes
        if changes.strip or changes.add:
            method, target, rest = raw.split(b" ", 2)
            target = inward(target, changes.strip, changes.add)
            self._doubled = target[:2] == b"//"
            raw = b"%b %b %b" % (method, target, rest)
        if b"W/" in self._tags:
            strong = with_strong_tags(raw)
            return strong if len(strong) <= most else raw
        return raw

    # The answer.

    def answer(self, head: ResponseHead, *, close: bool, decoded: bool) -> tuple[bytes, Coder | None]:
        """The head that goes to the client, and the coder of its content; None: the content goes on unchanged.

        `close`, `decoded`: as in `ResponseHead.passed_on`.
        """
        cut, extra = self._location(head)
        coder = None
        if self._compress is not None and self._suits(head, self._compress):
            cut.add(b"vary")
            extra += _varied(head)
            if self._gzip and self._may_code:
                coder = Coder(self._compress.level, chunked=head.length == CHUNKED)
                tag = _weakened(head)
                cut.update((b"accept-ranges", *((b"etag",) if tag else ())))
                return head.coded(cut, extra + tag + b"Content-Encoding: gzip\r\n", close=close), coder
        elif head.status == _NOT_MODIFIED and self._tags:
            tag = _weakened(head)
            if tag and tag[6:-2] in self._tags:
                # It confirms the compressed form, which is what the client has.
                cut.update((b"etag", b"vary"))
                extra += tag + _varied(head)
        return head.passed_on(close=close, decoded=decoded, cut=cut, extra=extra), coder

    def _suits(self, head: ResponseHead, compress: Compress) -> bool:
        """Whether to compress this answer for clients that accept it."""
        length, fields = head.length, head.fields
        if head.status not in _CODED_STATUSES or self._method == b"HEAD":
            return False
        if length == UNTIL_CLOSE or (length != CHUNKED and length < max(1, compress.min)):
            # Content that ends with its connection may have been cut; compressed, it would look complete.
            return False
        kind = (fields.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        return (
            kind.decode("latin-1") in compress.types
            and not any(fields.get(name) is not None for name in _OTHER_CONTENT)
            and b"no-transform" not in fields.tokens(b"cache-control")
        )

    def _location(self, head: ResponseHead) -> tuple[set[bytes], bytes]:
        """The Location as clients see it: names of lines to cut, and lines to add."""
        strip, add = self._changes.strip, self._changes.add
        location = head.fields.get(b"location") if strip or add else None
        if location is None:
            return set(), b""
        return {b"location"}, b"Location: %b\r\n" % outward(location, strip, add, self._host, doubled=self._doubled)


def inward(target: bytes, strip: bytes, add: bytes) -> bytes:
    """A request-target as the service knows it: without `strip`, if that ends with a segment, and after `add`."""
    if target[:1] != b"/":
        return target
    if strip and target.startswith(strip):
        rest = target[len(strip) :]
        if not rest or rest[:1] in b"/?":
            target = rest if rest[:1] == b"/" else b"/" + rest
    return add + target


def outward(location: bytes, strip: bytes, add: bytes, host: bytes, *, doubled: bool = False) -> bytes:
    """A Location as clients have to write it, the reverse of `inward`.

    Changes only a path, or a URL of the `host` that the client asked for. One that does not begin with `add`, or whose
    rest begins with `strip`, stays as it is: the service has written it for clients. `doubled`: the request had a path
    that begins with two slashes, so one in the answer is a path, too, and not another host.
    """
    scheme, mark, rest = location.partition(b"://")
    path = location
    before = b""
    if mark and scheme.lower() in (b"http", b"https"):
        authority, slash, path = rest.partition(b"/")
        if authority.lower() != host or not slash:
            return location
        before, path = scheme + mark + authority, slash + path
    if path[:1] != b"/" or (path[:2] == b"//" and not (before or doubled)):
        return location
    if not _is_below(path, add) if add else _is_below(path, strip):
        return location
    return before + strip + (path[len(add) :] or b"/")


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"/", b"?", b"#", b"")


def with_strong_tags(raw: bytes) -> bytes:
    """A request head whose If-None-Match names every weak entity tag as a strong one, too.

    By RFC 9110 13.1.2 both mean the same; Synapse and others compare the bytes.
    """
    lines = raw.split(b"\r\n")
    for number, line in enumerate(lines):
        if line[:14].lower() == b"if-none-match:":
            lines[number] = _WEAK_TAG.sub(rb"W/\1, \1", line, _MOST_TAGS)
    return b"\r\n".join(lines)


def _weakened(head: ResponseHead) -> bytes:
    """The line of a weak entity tag (RFC 9110 8.8.3.3); empty if the answer has no strong one."""
    tag = head.fields.get(b"etag")
    return b"ETag: W/%b\r\n" % tag if tag is not None and _ENTITY_TAG.fullmatch(tag) else b""


def _varied(head: ResponseHead) -> bytes:
    """The Vary line: it adds Accept-Encoding to what the answer has."""
    values = head.fields.get_all(b"vary")
    known = head.fields.tokens(b"vary")
    if b"*" in known or b"accept-encoding" in known:
        return b"Vary: %b\r\n" % b", ".join(values)
    return b"Vary: %b\r\n" % b", ".join([*(value for value in values if value), _VARY])
