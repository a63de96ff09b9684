"""Memory, locks and events that the main program and workers of every kind use alike.

All of it is made of descriptors, which travel by `_wire/handles.py`: nothing has a name that could
be left behind, whatever waits sleeps in the kernel, and the kernel tells when a holder has died.
"""
