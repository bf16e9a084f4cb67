"""What OpenSSL can be told of a context, and the standard library has no word for.

    set_keys     by which keys tickets are written, so that several processes may have the same (workers.tickets)
    set_groups   in which groups keys are agreed on: the library can say one, or nothing

Both say whether it was done. Natively (workers/_native/contexts.c) where that can be had, and on interpreters that it
knows; elsewhere, and with SENTINEL_PURE=1, nothing is done: tickets are each process's own, and groups are OpenSSL's.
"""

from __future__ import annotations

import os
import ssl
from importlib import import_module
from types import ModuleType


def set_keys(context: ssl.SSLContext, keys: bytes) -> bool:
    """Write and read tickets by these 80 octets from now on."""
    native = _native()
    return native is not None and bool(native.set_keys(import_module("_ssl"), context, keys))


def set_groups(context: ssl.SSLContext, *names: str) -> bool:
    """Agree on keys in these groups only, as OpenSSL calls them."""
    native = _native()
    return native is not None and bool(native.set_groups(import_module("_ssl"), context, ":".join(names)))


def _native() -> ModuleType | None:
    if os.environ.get("SENTINEL_PURE"):
        return None
    try:
        return import_module("workers._native.contexts")
    except ImportError:
        return None
