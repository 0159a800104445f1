"""Runs the command line in this process; standard output and error apart, whatever click's release."""

from __future__ import annotations

from collections.abc import Mapping

from click.testing import CliRunner


def runner(environment: Mapping[str, str] | None = None) -> CliRunner:
    """Before click 8.2 both streams are one unless this says otherwise."""
    try:
        return CliRunner(env=environment, mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:  # click 8.2 has no such argument
        return CliRunner(env=environment)
