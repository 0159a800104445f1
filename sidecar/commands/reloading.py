"""`reload`: asks a running sidecar to read its files again, and waits for how that ends. systemd's units run it."""

from __future__ import annotations

import os
import signal
import time

import click

from sidecar.app.outcome_file import Ended, directory_of, kept
from sidecar.commands.checking import CLEAN, FAILED
from sidecar.commands.read_or_fail import fail

_BETWEEN = 0.02
"""Seconds between two reads of the file: a reload takes some tenths of a second, and nothing announces its end."""


@click.command("reload", short_help="Reload a running sidecar and wait for the outcome.")
@click.option("--pid", type=int, envvar="MAINPID", required=True, help="Process of the sidecar; systemd's $MAINPID.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait for the end.")
def reload(pid: int, timeout: float) -> None:
    """Reload a running sidecar, and wait for the outcome.

    RUNTIME_DIRECTORY must be the same as for the sidecar; the systemd units set it. Exit status: 0 accepted; 2 refused
    (the reasons are printed), or the outcome is unknown.
    """
    directory = directory_of(os.environ)
    if not directory:
        fail("RUNTIME_DIRECTORY is not set: use `systemctl reload`, with RuntimeDirectory= in the unit")
    asked = time.monotonic_ns()
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        fail(f"process {pid} cannot be asked to reload: {error.strerror}")
    ended = _wait(directory, pid, asked, timeout)
    if ended.accepted:
        click.echo(f"reloaded: {'; '.join(ended.sentences)}")
        raise SystemExit(CLEAN)
    for sentence in ended.sentences:
        click.echo(f"not reloaded, nothing has changed: {sentence}", err=True)
    raise SystemExit(FAILED)


def _wait(directory: str, pid: int, asked: int, timeout: float) -> Ended:
    """The first outcome of a reload that began after `asked`; ends the program where there will be none."""
    while (ended := kept(directory)) is None or ended.began < asked:
        if time.monotonic_ns() - asked > timeout * 1e9:
            fail(f"process {pid} did not report within {timeout:g} s how the reload ended; see its log")
        try:
            os.kill(pid, 0)
        except OSError:
            fail(f"process {pid} ended while it was to reload")
        time.sleep(_BETWEEN)
    return ended
