"""The worker's side. Imports neither anyio nor an event loop until a call needs one."""
