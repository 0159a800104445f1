"""What we know of Synapse: its endpoints, its configuration, its tokens. Pure, but for the askers."""
