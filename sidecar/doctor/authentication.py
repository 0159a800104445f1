"""The Matrix Authentication Service, asked as a client asks it that wants to know how to log in. Blocks."""

from __future__ import annotations

from sidecar.doctor.findings import Finding, error, fine
from sidecar.doctor.raw_request import ServerAddress, SilenceError, ask
from sidecar.doctor.worker_checks import FORWARDED, LOGIN

_MEND = (
    "Start MAS, with the resource `compat` on that listener, or write where it listens: "
    "`synapse: {mas: http://HOST:PORT}`."
)


def examine_mas(place: ServerAddress) -> Finding:
    """Whether it answers /login, which goes there."""
    try:
        reply = ask(place, "GET", LOGIN, FORWARDED)
    except SilenceError as silence:
        return error(f"MAS at {place} does not answer, so nobody can log in: {silence}.", _MEND)
    if reply.status == 200 and "flows" in reply.values:
        return fine(f"MAS at {place} answers: people can log in.")
    return error(f"MAS at {place} answers {reply.told()} to /login, so nobody can log in.", _MEND)
