"""matrix-sidecar: a gateway that routes Matrix requests to Synapse workers, byte for byte."""

__version__ = "1.0.0rc1"
