"""What is kept of exchanges that have ended: what they add up to, and the lines that are written of them."""
