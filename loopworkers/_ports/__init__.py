"""Messages between any two places, and memory that they share; the same code on both sides."""
