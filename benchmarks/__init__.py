"""What one hop costs: the sidecar beside nginx, HAProxy and Caddy. `python -m benchmarks --help`."""

import sys
from pathlib import Path

# The laboratory of the tests serves here too, under the names that it has there.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
