"""What one hop costs: the sidecar beside nginx, HAProxy and Caddy. `python -m benchmarks --help`."""
