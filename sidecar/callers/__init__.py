"""Finds out who the caller is, where a token does not say. Knows no routes."""
