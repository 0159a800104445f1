"""Restarts the processes of Synapse one after another, without a failed request. Talks to running sidecars only."""
