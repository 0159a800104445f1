"""Takes each request from its client to a worker and the answer back. Knows no configuration file."""
