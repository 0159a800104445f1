"""A machine for what the pages tell people to do: this one, but what is written there is thrown away.

Its root is an overlay whose upper layer is in memory. It has processes, mounts and a loopback of its own, and no
network. On it are a Synapse as Debian lays it out, of stand-in workers, a real nginx in front with the lines of the
front page, and perhaps a sidecar that runs. systemd is a stand-in that starts services by their units. pip finds what
is installed here, packed into wheels again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from types import TracebackType

from attrs import frozen
from packaging.requirements import Requirement

from .blocks import ROOT

PATIENCE = 60.0
SEPARATE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--uts")
UNPACKED = (".pyc", "/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json")
"""What only an installation has."""


@frozen
class Outcome:
    """What a command did."""

    status: int
    output: str


class Machine:
    """Runs commands of bash one after another; ends with the block, and all that was started on it."""

    def __init__(self, directory: Path, wheels: Path, *, with_sidecar: bool) -> None:
        """`directory` is empty, and gets mounts that nobody else sees."""
        inside = [sys.executable, "-m", "docs.inside", str(directory), str(wheels), "sidecar" if with_sidecar else ""]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._process = subprocess.Popen(
            [*SEPARATE, *inside],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started = self._answer()
        assert started.status == 0, started.output

    def run(self, command: str, until: str = "") -> Outcome:
        """With `until` the command is interrupted as soon as it has printed this."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, "until": until}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Outcome:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the machine has ended: {self._process.wait(PATIENCE)}"
        return Outcome(**json.loads(line))

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


def separable() -> str:
    """Why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can make mounts"
    try:
        done = subprocess.run([*SEPARATE, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unshare is not installed"
    return "" if done.returncode == 0 else done.stderr.strip()


def pack_wheels(directory: Path, *names: str) -> Path:
    """Wheels of all that these distributions need, so that pip needs nobody else."""
    for one in needed(*names):
        if one.metadata["Name"] != "matrix-sidecar":
            _pack(one, directory)
    return directory


def needed(*names: str) -> Iterator[Distribution]:
    """The distributions with these names and those that they need here."""
    seen, waiting = set[tuple[str, str]](), [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found = distribution(name)
        if not extra:
            yield found
        for each in map(Requirement, found.requires or []):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                waiting += [(each.name.lower(), also) for also in ("", *each.extras)]


def _pack(found: Distribution, directory: Path) -> None:
    # The last tag: where there are several, the first is for Python 2.
    tag = re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)[-1]
    stem = f"{re.sub('[-.]+', '_', found.metadata['Name'])}-{found.version}"
    with zipfile.ZipFile(directory / f"{stem}-{tag}.whl", "w") as wheel:
        packed = [f"{stem}.dist-info/RECORD"]
        for file in found.files or []:
            place = file.as_posix()
            # Programs, which pip makes anew, are outside.
            if not place.startswith("..") and not place.endswith(UNPACKED):
                packed.append(re.sub(r"^[^/]*\.dist-info/", f"{stem}.dist-info/", place))
                wheel.write(str(found.locate_file(file)), packed[-1])
        wheel.writestr(packed[0], "".join(f"{place},,\n" for place in packed))
