"""The six native kernels, and what is compiled besides where that is wanted; all else is in pyproject.toml.

`SENTINEL_COMPILED=1` has mypyc translate the modules that a request goes through, at four to five tenths less
(ADR 29). It needs mypy where the build runs. Not for a tree that is worked in: what was compiled would be run for what
is written.

`SENTINEL_SANITIZE=address,undefined` builds them with sanitizers, `SENTINEL_WERROR=1` turns warnings into errors.
"""

import os

from setuptools import Extension, setup

FLAGS = [
    "-std=c11", "-O2", "-fvisibility=hidden",
    "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Wno-cast-function-type",
]  # fmt: skip
LINK: list[str] = []
if os.environ.get("SENTINEL_WERROR"):
    FLAGS.append("-Werror")
if sanitizers := os.environ.get("SENTINEL_SANITIZE"):
    FLAGS += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g", "-O1"]
    LINK.append(f"-fsanitize={sanitizers}")

CELLS = Extension(
    "shm._native.cells",
    ["shm/_native/cells.c"],
    depends=[
        f"shm/_native/{name}.h"
        for name in ("layout", "atomics", "kernel", "siphash", "limits", "leases", "budgets", "places")
    ],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
    define_macros=[("Py_LIMITED_API", "0x030b0000")],
    py_limited_api=True,
)
HTTP1 = Extension(
    "workers._native.http1",
    ["workers/_native/http1.c"],
    depends=[f"workers/_native/{name}.h" for name in ("scan", "names", "reader")],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
)
BOOKS = Extension(
    "workers._native.books",
    ["workers/_native/books.c"],
    depends=["shm/_native/siphash.h"],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
)
TELLING = Extension(
    "workers._native.telling",
    ["workers/_native/telling.c"],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
)
BLANKS = Extension(
    "workers._native.blanks",
    ["workers/_native/blanks.c"],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
)
CONTEXTS = Extension(
    "workers._native.contexts",
    ["workers/_native/contexts.c"],
    extra_compile_args=FLAGS,
    extra_link_args=LINK,
)

# The way of a request, and whoever holds what stands by it. All at once, so that they see each other's classes.
COMPILED = [
    *(f"sentinel/core/{name}.py" for name in (
        "allowances", "appraisal", "budgets", "candidates", "compiled", "decide", "drive", "keys", "limits",
        "pathindex", "request", "routes", "trace", "verdict", "balance/chooser",
        "stages/budget", "stages/forward", "stages/hold", "stages/limit", "stages/match", "stages/model",
        "stages/respond", "stages/throttle",
    )),
    *(f"sentinel/inference/{name}.py" for name in (
        "adapters", "anthropic", "ask", "dialect", "encodings", "estimate", "fault", "frames", "look", "meter",
        "openai", "sheet", "usage",
    )),
    "shm/tallies.py",
    *(f"workers/{name}.py" for name in (
        "answer", "attempt", "bill", "calls", "decoding", "downstream", "exchange", "glances", "hedging", "ids",
        "intake", "ledger", "metering", "places", "pool", "pricing", "retrying", "service", "shadowing", "timers",
        "world",
    )),
]  # fmt: skip


def compiled() -> list[Extension]:
    """The modules of COMPILED, translated."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        remedy = "pip install mypy, and build with --no-build-isolation"
        raise SystemExit(f"setup.py: SENTINEL_COMPILED needs mypy: {remedy}") from None
    options = ["--always-true=COMPILED", "--config-file=", "--ignore-missing-imports"]
    found: list[Extension] = mypycify([*options, *COMPILED], opt_level="2", group_name="sentinel", multi_file=True)
    return found


setup(
    ext_modules=[
        CELLS, HTTP1, BOOKS, TELLING, BLANKS, CONTEXTS,
        *(compiled() if os.environ.get("SENTINEL_COMPILED") else []),
    ],
)  # fmt: skip
