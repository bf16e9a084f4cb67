"""Sentinel computes: the pure part of the gateway, and (in `cli`) its composition root."""
