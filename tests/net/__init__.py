"""The Twisted edge, against real sockets where it can be and against fakes that behave like them where it cannot."""
