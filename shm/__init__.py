"""Shared memory: what the fleet remembers while its processes come and go.

`shm.region` is the way in, `shm.heritage` what a worker inherits, LAYOUT.md the
drawing. Nothing is re-exported here, so that the tools of the layout load
nothing but the layout.
"""
