"""What a proxy makes its homeserver pay: the same Synapse, behind several proxies in turn, under the same load."""
