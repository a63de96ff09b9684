"""Engines: what runs the calls of a pool elsewhere."""
