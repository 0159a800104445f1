"""The operator's listener: health, status, and the few things that can be done to a running sidecar, over HTTP."""
