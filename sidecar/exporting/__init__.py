"""The routing of a deployment in the languages of other proxies. Opens nothing and runs nothing."""
