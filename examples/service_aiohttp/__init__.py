"""An example: a service in aiohttp that computes."""
