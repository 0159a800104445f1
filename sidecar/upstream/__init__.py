"""The connections to each worker, and whether it is up. Knows no clients."""
