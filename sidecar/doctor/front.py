"""The proxy in front, tested from outside: what comes to the sidecar of a request. Blocks.

Sends requests to the public address; what came of them the sidecar tells through a canary.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from attrs import field, frozen

from sidecar.config.amounts import write_size
from sidecar.doctor.echo import (
    CLAIMED,
    PROBES,
    TOGETHER,
    Echo,
    astray,
    changed_targets,
    judge_client,
    judge_host,
    judge_scheme,
    stopped_targets,
)
from sidecar.doctor.findings import Finding, error, fine, unknown, warning
from sidecar.doctor.operators import Operators
from sidecar.doctor.public import Public, examine_answer, examine_closed, told
from sidecar.doctor.raw_request import PATIENCE, Reply, SilenceError, ask

PREFIXES = ("/_matrix/client", "/_matrix/federation", "/_matrix/key", "/_matrix/media", "/_synapse/client")
"""What the proxy in front has to forward."""
MEDIA = "/_matrix/media"
ATTEMPTS = 12
"""Requests until one comes to an instance that knows the canary: several may share the port."""
BEGINNING = b"x" * 1024
"""What is sent of a large body."""
BODY_PATIENCE = 3.0
"""Seconds in which a proxy refuses a body for its announced size."""
USUAL_POLL = 35.0
"""Seconds that clients let a long poll take, and a little more."""


@frozen(kw_only=True)
class Front:
    """One examination of the proxy in front."""

    public: Public
    operators: Operators
    upload: int
    """Octets of Synapse's `max_upload_size`."""
    name: str = field(factory=lambda: secrets.token_hex(16))
    """Of the canary."""

    def examine(self, slow: float | None = None) -> Iterator[Finding]:
        """Everything; `slow`: seconds that a long poll is to last."""
        try:
            yield from examine_answer(self.public.place)
        except SilenceError as silence:
            yield self._unanswered("/_matrix/client/versions", silence)
            return
        yield examine_closed(self.public.place)
        if not self.operators.canary(self.name, "open"):
            yield unknown("doctor could not test what the proxy in front changes: no sidecar reports it.", _ADMIN)
            return
        try:
            yield from self._with_canary()
        finally:
            self.operators.canary(self.name, "close")
        if slow is not None:
            yield self._slow(slow)

    def _with_canary(self) -> Iterator[Finding]:
        came: list[str] = []
        lost: dict[tuple[str, str], list[str]] = {}
        for prefix in PREFIXES:
            found = self._echo(f"{prefix}/{self.name}")
            if isinstance(found, Echo):
                came.append(prefix)
            elif isinstance(found, Reply):
                lost.setdefault((found.told(), found.get("Server")), []).append(prefix)
            else:
                yield self._unanswered(prefix, found)
        for (answer, server), prefixes in lost.items():
            yield astray(prefixes, answer, server)
        if came:
            yield fine(f"Requests below {', '.join(came)} reach this sidecar.")
            yield from self._targets(came[0])
            yield from self._fields(came[0])
        if MEDIA in came:
            yield self._body()

    def _unanswered(self, what: str, silence: SilenceError) -> Finding:
        return error(f"{self.public.place} does not answer {what}: {silence}.", _REACH)

    def _echo(self, target: str, *fields: tuple[str, str], timeout: float = PATIENCE) -> Echo | Reply | SilenceError:
        """What came of a GET; else how it was answered instead, if it was."""
        for left in reversed(range(ATTEMPTS)):
            try:
                reply = ask(self.public.place, "GET", target, fields, timeout=timeout)
            except SilenceError as silence:
                return silence
            if reply.values.get("canary") == self.name:
                return _echo_of(reply)
            if not (left and reply.by_synapse):
                break
            # Another instance, or this one was reloaded meanwhile.
            self.operators.canary(self.name, "open")
        return reply

    def _targets(self, prefix: str) -> Iterator[Finding]:
        """All probes in two requests; one by one only if something was changed, to say what."""
        start = f"{prefix}/{self.name}"
        together = [(f"{start}{rest}", self._echo(f"{start}{rest}")) for rest in TOGETHER]
        if all(isinstance(echo, Echo) and echo.target == sent for sent, echo in together):
            yield fine(
                f"The proxy in front forwards paths and queries unchanged: {', '.join(what for what, _ in PROBES)}."
            )
            return
        changes: list[tuple[str, str, str]] = []
        stopped: dict[str, list[str]] = {}
        server = ""
        for what, rest in PROBES:
            found = self._echo(f"{start}{rest}")
            if not isinstance(found, Echo):
                stopped.setdefault(_answered(found), []).append(what)
                continue
            server = found.server
            if found.target != f"{start}{rest}":
                changes.append((what, rest, found.target.removeprefix(start).replace(self.name, "…")))
        if changes:
            yield changed_targets(changes, server)
        for answer, things in stopped.items():
            yield stopped_targets(things, answer, server)

    def _fields(self, prefix: str) -> Iterator[Finding]:
        """Who the client is taken for, when it claims to be somebody else."""
        scheme = "http" if self.public.scheme == "https" else "https"
        claims = ("X-Forwarded-For", CLAIMED), ("X-Forwarded-Proto", scheme)
        echo = self._echo(f"{prefix}/{self.name}", *claims)
        if isinstance(echo, Echo):
            yield judge_client(echo)
            yield judge_scheme(echo, self.public.scheme, scheme)
            yield judge_host(self.public.place.named, echo)

    def _body(self) -> Finding:
        """Whether a body as large as Synapse takes it is let in, by its announced size."""
        size, target = write_size(self.upload), f"{MEDIA}/v3/upload/{self.name}"
        kind = ("Content-Type", "application/octet-stream")
        try:
            reply = ask(
                self.public.place, "POST", target, [kind], BEGINNING, announced=self.upload, timeout=BODY_PATIENCE
            )
        except SilenceError as silence:
            if isinstance(silence.error, TimeoutError):
                return fine(
                    f"Uploads of {size}, Synapse's max_upload_size, are accepted. The proxy in front "
                    "buffers each until it is complete."
                )
            return error(f"An upload of {size} failed: {silence}.", _BODY.format(size=size))
        if reply.status == 413:
            return error(
                f"The proxy in front refuses uploads of {size}, which Synapse accepts: {told(reply)}.",
                _BODY.format(size=size),
            )
        return fine(f"Uploads of {size}, Synapse's max_upload_size, are accepted.")

    def _slow(self, seconds: float) -> Finding:
        """Whether the proxy in front waits for an answer that takes so long."""
        if not self.operators.canary(self.name, f"hold/{seconds:g}"):
            return unknown(
                "doctor could not test how long the proxy in front waits: no sidecar delays a response for it.", _ADMIN
            )
        try:
            echo = self._echo(f"{PREFIXES[0]}/{self.name}", timeout=seconds + PATIENCE)
        finally:
            self.operators.canary(self.name, "close")
        if isinstance(echo, Echo):
            return fine(f"The proxy in front waits {seconds:g} s for a response.")
        short = error if seconds <= USUAL_POLL else warning
        return short(f"The proxy in front does not wait {seconds:g} s for a response: {_answered(echo)}.", _TIMEOUT)


_REACH = (
    "Check that the name is right, that DNS points here, and that the proxy in front runs. --connect-to tests another "
    "address."
)
_ADMIN = (
    "`admin:` in the file gives the sidecar an operator's listener, and `operator.actions` must not be `none`. The "
    "section about the sidecar says more."
)
_TIMEOUT = "Raise it: `proxy_read_timeout 15m;` for nginx, `timeout=900` for ProxyPass, `timeout server 900s`."
_BODY = "`client_max_body_size {size};` for nginx, no `request_body` for Caddy; Apache and HAProxy have no limit."


def _answered(found: Reply | SilenceError) -> str:
    return told(found) if isinstance(found, Reply) else str(found)


def _echo_of(reply: Reply) -> Echo:
    values = reply.values
    return Echo(
        target=str(values["target"]),
        client=str(values["client"]),
        scheme=str(values["scheme"]),
        fields={str(name): [*map(str, lines)] for name, lines in values["fields"].items()},
        server=reply.get("Server"),
    )
