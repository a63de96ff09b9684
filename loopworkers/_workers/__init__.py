"""The kinds of workers as the loop's side sees them: start, send, take back, stop."""
