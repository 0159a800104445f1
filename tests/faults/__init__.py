"""Faults of workers, clients and the machine, with real processes and signals; beside nginx and HAProxy."""
