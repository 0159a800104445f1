"""What `doctor` tests of a running installation, and what it says of it. Asks over HTTP; needs no Twisted."""
