"""Libraries that entries of `listen` need and that are not installed. For a start, a reload and `matrix-sidecar
check`."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.endpoint_strings import entrance
from sidecar.config.schema import Settings
from sidecar.errors import Problem

HTTP2_MISSING = "HTTP/2 needs h2; install it with `pip install 'matrix-sidecar[http2]'`"


def library_problems(settings: Settings) -> Iterator[Problem]:
    """One problem for each entry that cannot be served; for TLS, `certificate_problems` reports it."""
    for number, text in enumerate(settings.listen):
        if entrance(text).http2 and not _has_http2():
            yield settings.source.problem(("listen", number), HTTP2_MISSING)


def _has_http2() -> bool:
    try:
        import h2.connection  # noqa: F401
    except ImportError:
        return False
    return True
