"""`matrix-sidecar`: the commands that look and do not run. Reads what a start reads, and prints.

Starts no reactor and needs no Twisted, so that it answers at once. What is printed is worked out elsewhere.
"""

from __future__ import annotations

import os
import sys

import click

from sidecar import __version__
from sidecar.commands.asking_hottest import hottest
from sidecar.commands.asking_where import explain
from sidecar.commands.check import check
from sidecar.commands.completion import completion
from sidecar.commands.diff import diff
from sidecar.commands.doctor import doctor
from sidecar.commands.export import export
from sidecar.commands.foreign import import_
from sidecar.commands.init import init
from sidecar.commands.maintaining import maintenance
from sidecar.commands.password import password
from sidecar.commands.printed import Printed
from sidecar.commands.reloading import reload
from sidecar.commands.rolling import rollout
from sidecar.commands.routes import routes
from sidecar.commands.top import top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="matrix-sidecar", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Check, explain, test and watch matrix-sidecar. `twistd matrix-sidecar` runs it."""
    if os.environ.get("NO_COLOR"):
        context.color = False
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = Printed(sys.stdout), Printed(sys.stderr)


main.add_command(check)
main.add_command(completion)
main.add_command(diff)
main.add_command(doctor)
main.add_command(explain)
main.add_command(export)
main.add_command(hottest)
main.add_command(import_)
main.add_command(init)
main.add_command(maintenance)
main.add_command(password)
main.add_command(reload)
main.add_command(rollout)
main.add_command(routes)
main.add_command(top)

if __name__ == "__main__":
    main()
