"""A real Synapse with workers, the sidecar in front of it, and a Matrix client that uses both."""
