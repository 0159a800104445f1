"""What an existing nginx or HAProxy does with requests, and the same as a configuration of ours. Pure."""
