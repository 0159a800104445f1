"""The status page: what `/api/status` tells, as HTML that works without scripts and is kept fresh by one."""
