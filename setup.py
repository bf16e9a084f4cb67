"""The five native kernels; all else is in pyproject.toml.

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

setup(ext_modules=[CELLS, HTTP1, BOOKS, TELLING, BLANKS])
