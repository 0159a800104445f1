"""Twisted's edge: sockets, pools, deadlines, relaying. Decides nothing about messages or routes."""
