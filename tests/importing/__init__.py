"""Reading other proxies' configurations: against the real programs, and piece by piece."""
