"""`loopworkers serve`: an ASGI application in the workers of a `Cluster`."""
