"""HTTP/2 as values: frames, requests, answers, one connection without its socket. Knows no reactor and no clock."""
