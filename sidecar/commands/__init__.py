"""What the commands of `matrix-sidecar` tell: rows, stories of requests, differences, what-ifs. No reactor here."""
