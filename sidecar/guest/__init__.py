"""The sidecar inside a process of Synapse."""
