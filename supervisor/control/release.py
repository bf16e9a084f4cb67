"""Which release this is, as the installed package says; a source tree that was never installed is `0+source`."""

from __future__ import annotations

from importlib import metadata


def release() -> str:
    try:
        return metadata.version("sentinel-gateway")
    except metadata.PackageNotFoundError:
        return "0+source"
