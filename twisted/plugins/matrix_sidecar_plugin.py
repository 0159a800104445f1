"""Tells twistd of the command `matrix-sidecar`. Imports nothing of ours: the command's module is loaded when chosen."""

from twisted.application.service import ServiceMaker

matrixSidecar = ServiceMaker(
    "matrix-sidecar",
    "sidecar.tap",
    "Routes Matrix requests to Synapse workers, byte for byte.",
    "matrix-sidecar",
)
