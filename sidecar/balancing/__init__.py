"""Choosing a server for a connection, and when one counts as down. Pure: knows no socket, no clock."""
