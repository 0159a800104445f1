"""What would happen to requests that nobody sends: heard, decided and told as the running sidecar would do it."""
