"""Client connections that carry many requests at once (HTTP/2): each of them is a session. Knows no workers."""
