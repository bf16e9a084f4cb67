"""Moves bytes: the worker process. What it is told stands in `shm.heritage`, where it begins in `workers.main`."""
