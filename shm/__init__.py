"""Shared memory: what the fleet remembers while its processes come and go."""

from shm.heritage import Heritage

__all__ = ["Heritage"]
