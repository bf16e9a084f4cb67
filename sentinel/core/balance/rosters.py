"""Whether an endpoint serves the model that is asked for, by the names that it told.

Names are compared as they are written, but for Ollama's tag: who asks for `llama3` means `llama3:latest` there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

LATEST: Final = ":latest"


def serves(names: Collection[str], model: str) -> bool:
    return model in names or model + LATEST in names
