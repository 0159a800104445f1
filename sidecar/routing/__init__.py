"""Where a request goes: rows, keys, hashing, plan. Pure: no reactor, no socket, no clock."""
