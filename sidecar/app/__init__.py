"""Wires the program: starts, reloads, drains and stops it."""
