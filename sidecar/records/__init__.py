"""The access log: what is told of an exchange that has ended, of which ones, and in which words."""
