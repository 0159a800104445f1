"""`matrix-sidecar top`: what the status page shows, in a terminal."""
