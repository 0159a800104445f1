"""One request and its answer as values: progress, failures, what may be sent again, replies of our own. Pure."""
