"""Sockets, buffers and deadlines on the reactor. Knows no HTTP."""
