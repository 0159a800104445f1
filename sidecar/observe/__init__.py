"""Logs and counters of the running process."""
