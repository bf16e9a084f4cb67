from typing import TypeVar

T = TypeVar("T")

def copy_of(blank: T, /) -> T: ...
