"""The status page: what `/api/status` reports, as HTML. It works without scripts; a script keeps it up to date."""
