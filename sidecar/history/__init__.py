"""What an operator wants to know of the last hour: what happened, how much was done, and for whom most of it."""
