"""A Debian that has booted: systemd is its first process, and it has no network but its own loopback."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType

from attrs import define, field, frozen

PATIENCE = 180.0
REBOOTS = 133
"""By which systemd-nspawn says that the machine wants to be booted again."""


@frozen
class Outcome:
    status: int
    output: str


@define(eq=False)
class Booted:
    """Boots a tree with the block, and powers it off at its end."""

    tree: Path
    console: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Booted:
        self._boot()
        return self

    def _boot(self) -> None:
        log = self.console.open("ab")
        self._process = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--private-network"),
                *("--console=pipe", "--hostname=debian", f"--directory={self.tree}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        self._wait_for_boot()

    def _wait_for_boot(self) -> None:
        """Until everything is started that is to be."""
        assert self._process is not None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self._process.poll() is None, self.console.read_text(errors="replace")
            if self.leader():
                done = self.run("systemctl is-system-running --wait")
                if done.output.strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise AssertionError(f"does not boot: {self.console.read_text(errors='replace')}")

    def leader(self) -> int:
        """The id out here of the machine's first process; 0 if there is none yet."""
        assert self._process is not None
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except OSError:
            return 0
        for child in children:
            try:
                if Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "init"):
                    return int(child)
            except OSError:
                pass
        return 0

    def command(self, text: str) -> list[str]:
        return [
            *("nsenter", f"--target={self.leader()}", "--all", "--", "/usr/bin/env", "--ignore-environment"),
            *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "TERM=xterm", "LANG=C.UTF-8"),
            *("DEBIAN_FRONTEND=noninteractive", "/bin/bash", "-e", "-o", "pipefail", "-c", f"cd /root\n{text}"),
        ]

    def run(self, text: str) -> Outcome:
        """What commands of bash do, as root."""
        done = subprocess.run(
            self.command(text), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return Outcome(done.returncode, done.stdout)

    def does(self, text: str) -> str:
        """What they printed; they must succeed."""
        done = self.run(text)
        assert done.status == 0, f"{text}\nexited with {done.status}:\n{done.output}"
        return done.output

    def reboot(self) -> None:
        """Shut down, and be there again."""
        assert self._process is not None
        self.run("systemctl reboot")
        assert self._process.wait(PATIENCE) == REBOOTS
        self._boot()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self.leader():
            self.run("systemctl poweroff")
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)
