"""Asks the operator's listener of a running sidecar: how it is, and to answer a canary. Blocks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from sidecar import __version__
from sidecar.doctor.findings import Finding, error, fine, unknown, warning
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask
from sidecar.loading.deployment import Deployment


@frozen
class Operators:
    """The operator's listeners of all instances that share the port, and how to be let in."""

    places: tuple[ServerAddress, ...]
    user: str = "operator"
    password: bytes | None = None

    def ask(self, place: ServerAddress, method: str, path: str) -> Reply:
        """One answer; raises SilenceError."""
        fields = [] if self.password is None else [("Authorization", f"Basic {self._credentials()}")]
        return ask(place, method, path, fields)

    def _credentials(self) -> str:
        return b64encode(self.user.encode() + b":" + (self.password or b"")).decode("ascii")

    def canary(self, name: str, action: str) -> int:
        """Open or close a canary on all of them; on how many that worked."""
        worked = 0
        for place in self.places:
            try:
                worked += self.ask(place, "POST", f"/api/canary/{name}/{action}").status == 200
            except SilenceError:
                continue
        return worked

    def listening(self) -> list[str]:
        """Where the sidecar says that it listens."""
        return [str(each) for status in self._statuses() for each in status.get("listening", ())]

    def _statuses(self) -> Iterator[dict[str, Any]]:
        for place in self.places:
            try:
                yield self.ask(place, "GET", "/api/status").values
            except SilenceError:
                continue

    def examine(self, deployment: Deployment) -> Iterator[Finding]:
        """Whether each instance is well, and works by what the files say now."""
        for place in self.places:
            try:
                yield from self._examine(place, deployment)
            except SilenceError as silence:
                if isinstance(silence.error, PermissionError):
                    yield unknown(
                        f"You have no permission for the operator's listener at {place}.", "Run this as root."
                    )
                    continue
                yield error(
                    f"The operator's listener at {place} does not answer: {silence}.",
                    "Check that it runs (`systemctl status matrix-sidecar`), and that you can use its socket.",
                )

    def _examine(self, place: ServerAddress, deployment: Deployment) -> Iterator[Finding]:
        reply = self.ask(place, "GET", "/ready")
        status = self.ask(place, "GET", "/api/status")
        if status.status != 200:
            told = status.values.get("error", "")
            yield unknown(
                f"The operator's listener at {place} answered {status.status}: {told}".rstrip(": "), _PASSWORD
            )
            return
        if reply.status == 200:
            yield fine(f"The sidecar at {place} runs and is ready.")
        for reason in reply.values.get("reasons", ()):
            yield error(
                f"The sidecar at {place} is not ready: {reason}", "Start the workers that are missing, or undrain them."
            )
        yield from judge_status(status.values, deployment)


_PASSWORD = "Give the password with --password-file."  # noqa: S105


def judge_status(status: dict[str, Any], deployment: Deployment) -> Iterator[Finding]:
    """What a running sidecar says of itself, beside what the files and this program say."""
    release = deployment.table.release
    pools = {name: (list(pool.workers), list(pool.fallback)) for name, pool in deployment.plan.pools.items()}
    running = {name: (pool.get("workers"), pool.get("fallback")) for name, pool in status.get("pools", {}).items()}
    if status.get("version") != __version__:
        yield warning(
            f"The running sidecar has version {status.get('version')}, but {__version__} is installed.",
            "Restart it: `systemctl restart matrix-sidecar`.",
        )
    reload = status.get("reload")
    if reload and not reload.get("accepted"):
        yield error(
            "The sidecar refused the last reload, and still uses the configuration before it: "
            f"{'; '.join(reload['problems'])}",
            "Correct the file (`matrix-sidecar check` helps), and reload again.",
        )
    elif running != pools:
        yield warning(
            "The configuration files have changed since the sidecar read them.",
            "Reload it: `systemctl reload matrix-sidecar`.",
        )
    endpoints = status.get("endpoints", release)
    if endpoints != release:
        yield warning(
            f"The running sidecar uses the endpoints of Synapse {endpoints}, but the main process is now {release}.",
            "Reload it: `systemctl reload matrix-sidecar`.",
        )
    if status.get("maintenance"):
        yield warning("Maintenance mode is on: clients get 503.", "End it: `matrix-sidecar maintenance off`.")
    yield from _judge_parts(status)
    for name, worker in status.get("workers", {}).items():
        if worker.get("state") == "draining":
            yield warning(f"{name} is drained and gets no requests.", f"Undrain it: POST /api/workers/{name}/undrain.")
        elif worker.get("state") in ("down", "stuck"):
            yield error(
                f"The sidecar cannot reach {name}: {worker.get('reason') or 'it has not answered yet'}.",
                "The section about workers says more.",
            )


def _judge_parts(status: dict[str, Any]) -> Iterator[Finding]:
    """Which requests do not get to the workers that are meant for them."""
    parts = [part for pool in status.get("pools", {}).values() for part in pool.get("parts", ()) if part["open"]]
    stepping_in: dict[str, list[str]] = {}
    for part in parts:
        if part["served_by"] == "fallback":
            stepping_in.setdefault(", ".join(part["now"]), []).append(part["name"])
        elif part["served_by"] == "nobody" and not part["required"]:
            yield error(f"No worker serves {part['name']} now.", "Start its workers, or undrain them.")
    for workers, names in stepping_in.items():
        yield warning(
            f"None of their own workers can serve {', '.join(names)}; {workers} serves them instead.",
            "Start the workers, or undrain them.",
        )
