"""What `init` finds out and writes: Synapse's files, permissions, the proxy in front. No terminal, no reactor."""
