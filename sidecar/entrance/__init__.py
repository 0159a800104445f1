"""Where clients come in: listeners, TLS, the PROXY protocol, how many are accepted. Knows no workers."""
