"""The sidecar beside the proxies that it replaces: the same requests to both, in front of the same workers."""
