"""Connections that are passed on as they are, whatever is spoken in them, to one of several servers."""
