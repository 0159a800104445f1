"""matrix-sidecar: a gateway that routes Matrix requests to Synapse workers, byte for byte."""

__version__ = "0.1.0"
