"""What the two example services share: their work, and the load to try them with."""
