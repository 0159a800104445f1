"""The configuration file: YAML in, frozen values out. Knows no reactor, no socket, no clock."""
