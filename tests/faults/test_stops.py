"""A stop while long polls and uploads run: here SIGTERM lets all end, elsewhere it depends on the signal."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import connect

from .asking import RESET, Asked, answer_on, request
from .side_by_side import SIDECAR, WorkerProcess, in_front, summary

POLLS = 200
UPLOADS = 20
HALF = 300_000
POLL = "/_matrix/client/v3/sync/hold"
UPLOAD = "/_matrix/media/v3/upload"

STOPS = [
    (SIDECAR, signal.SIGTERM),
    *(
        pytest.param(name, number, marks=pytest.mark.needs(name))
        for name, number in (
            ("nginx", signal.SIGTERM),
            ("nginx", signal.SIGQUIT),
            ("haproxy", signal.SIGTERM),
            ("haproxy", signal.SIGUSR1),
        )
    ),
]


@pytest.mark.parametrize(("name", "number"), STOPS)
def test_polls_and_uploads_end(name: str, number: signal.Signals, place: Path, reached: Callable[..., None]) -> None:
    """Ours: all 200 long polls and 20 uploads that run when it is told to stop are answered; the status is 0."""
    with (
        WorkerProcess(place, backlog=1024) as worker,
        in_front(name, place, worker.path) as front,
        ExitStack() as stack,
    ):
        polls, uploads = (
            [stack.enter_context(connect(front.address)) for _ in range(count)] for count in (POLLS, UPLOADS)
        )
        for poll in polls:
            poll.sendall(request(POLL))
        for upload in uploads:
            upload.sendall(request(UPLOAD, "POST", bytes(2 * HALF))[:-HALF])
        worker.wait_for(POLL, POLLS)
        worker.wait_for(f"+{UPLOAD}", UPLOADS)
        os.kill(front.pid, number)
        if front.sidecar is not None:
            front.sidecar.says(f"waiting for {POLLS + UPLOADS} connections to end")
        uploaded = [_rest(upload) for upload in uploads]
        worker.signal(signal.SIGUSR1)
        polled = [answer_on(poll).outcome for poll in polls]
        fault = f"{number.name} during {POLLS} long polls and {UPLOADS} uploads"
        reached(fault, name, f"polls: {summary(polled)}; uploads: {summary(uploaded)}")
        assert (len(polled), len(uploaded)) == (POLLS, UPLOADS)
        if front.sidecar is not None:
            assert set(polled) == set(uploaded) == {"200"}
            assert front.sidecar.ends() == 0


def _rest(upload: socket.socket) -> str:
    """Send the second half; what became of the request."""
    try:
        upload.sendall(bytes(HALF))
    except ConnectionError:
        return Asked(RESET).outcome
    return answer_on(upload, "POST").outcome
