"""`compress:`. Which answers are compressed on their way to clients, and how hard."""

from __future__ import annotations

import re
from typing import Annotated, Any

from attrs import field, frozen

from sidecar.config.amounts import KIB
from sidecar.config.kinds import Flag, Kind, RefusedError, SizeOrZero, doc, shown

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}", re.ASCII)
_FASTEST, _SMALLEST = 1, 9


def _read_type(value: Any, _base: str) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if not _MEDIA_TYPE.fullmatch(text):
        raise RefusedError(f"{shown(value)} is no media type; write it without parameters: `application/json`")
    if not is_compressible(text):
        raise RefusedError(f"{shown(value)} is compressed already, and would only cost time; leave it out")
    return text


def is_compressible(media_type: str) -> bool:
    """Whether it is one of those that become smaller."""
    kind, _, rest = media_type.lower().partition("/")
    if kind == "image":
        return rest.endswith(("+xml", "bmp", "x-icon"))
    return kind not in ("audio", "video") and rest not in ("zip", "gzip", "x-gzip", "octet-stream")


def _read_level(value: Any, _base: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not _FASTEST <= value <= _SMALLEST:
        raise RefusedError(f"must be from {_FASTEST} (fast) to {_SMALLEST} (small), not {shown(value)}")
    return value


MediaType = Annotated[str, Kind("media type", "application/json", _read_type)]
CompressionLevel = Annotated[
    int,
    Kind("level", "1", _read_level, json={"type": "integer", "minimum": _FASTEST, "maximum": _SMALLEST}),
]


@frozen(kw_only=True)
class Compress:
    """`compress:`. Compresses answers to clients with gzip. `compress: {}` uses the defaults."""

    types: tuple[MediaType, ...] = field(
        default=(
            *("application/json", "application/javascript", "text/javascript", "text/css", "text/html"),
            *("text/plain", "image/svg+xml", "application/wasm", "application/manifest+json"),
        ),
        metadata=doc("Media types that are compressed, without parameters."),
    )
    min: SizeOrZero = field(
        default=1 * KIB,
        metadata=doc("Shorter answers are not compressed. An answer without Content-Length is compressed."),
    )
    level: CompressionLevel = field(
        default=1,
        metadata=doc(
            "1 is the fastest, and 9 makes the smallest answers. 6 takes nearly twice the time of 1, and saves a tenth."
        ),
    )
    federation: Flag = field(
        default=False,
        metadata=doc("Also compress answers to other homeservers. Few of them become much smaller, and all cost time."),
    )
