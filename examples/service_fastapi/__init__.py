"""An example: a service in FastAPI that computes."""
