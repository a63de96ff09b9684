"""Servers of several workers, whose listening sockets one primary process opens."""
