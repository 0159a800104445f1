"""What is measured, and how it is told to Prometheus: integers on the way of a request, everything else when asked."""
