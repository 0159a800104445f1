"""What `doctor` tests in a running installation, and what it reports. Sends HTTP requests; needs no Twisted."""
