"""HTTP/1.1 on the wire: where messages begin and end. Pure: no reactor, no socket, no clock, no routes."""
