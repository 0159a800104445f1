"""The routing of a deployment as configurations of other proxies. Pure: opens nothing and runs nothing."""
