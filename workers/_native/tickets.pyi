import ssl
from types import ModuleType

def set_keys(module: ModuleType, context: ssl.SSLContext, keys: bytes, /) -> bool: ...
