"""Build the playground that needs no server (`python -m sentinel.cli.playground`, or `make playground`).

    page/          →  the same files, told that Python is in the browser, with their policy in the page
    pyodide/       →  the interpreter, from its npm package
    sentinel.zip   →  our sources, and those of the KDL parser: exactly the modules that the function imports

Intuition: packing for a journey. What is taken along is found out by putting it on once: a fresh interpreter
imports the function as the browser will, with nothing of what a browser does not have, and says what it loaded.
So nothing is forgotten, and a module that needs more than a browser has is found here, not there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Final

import click

ENTRY: Final = "sentinel.playground.browser"
TAKEN: Final = ("sentinel", "workers", "kdl")
INTERPRETER: Final = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""As control's, and WebAssembly. Who may frame the page only a server can say (`frame-ancestors`)."""
ABSENT: Final = ("msgspec", "cryptography", "OpenSSL", "httptools", "uvloop", "click", "posix_ipc", "_native")
EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The same sources are the same archive."""

LOOK: Final = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if not set(name.split(".")).isdisjoint(ABSENT):
            raise ImportError(f"{name} is not there in a browser")

sys.meta_path.insert(0, Absent())
sys.platform = "emscripten"
__import__(ENTRY)
found = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in TAKEN}
print(json.dumps(found))
"""


@click.command()
@click.option("--pyodide", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="The unpacked npm package.")  # fmt: skip
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
def build(pyodide: Path, target: Path) -> None:
    """Write the static playground into TARGET, which any web server can serve."""
    page = Path(str(files("sentinel.playground").joinpath("page")))
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(page, target)
    index = target / "index.html"
    index.write_text(static_page(index.read_text(encoding="utf-8")), encoding="utf-8")
    (target / "pyodide").mkdir()
    for name in INTERPRETER:
        shutil.copyfile(pyodide / name, target / "pyodide" / name)
    write_sources(target / "sentinel.zip")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    click.echo(f"{target}: {size / 1e6:.1f} MB; serve it with `python -m http.server --directory {target}`")


def static_page(text: str) -> str:
    """The page, told who answers it, and with the policy that no server will send."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    told = text.replace('data-engine="control"', 'data-engine="pyodide"', 1)
    written = told.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1)
    assert written != told != text, "the page has lost its marks"
    return written


def write_sources(path: Path) -> None:
    """Pack what the function imports."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(modules().items()):
            inner = name.replace(".", "/") + ("/__init__.py" if source.name == "__init__.py" else ".py")
            archive.writestr(zipfile.ZipInfo(inner, EPOCH), source.read_bytes(), zipfile.ZIP_DEFLATED)


def modules() -> dict[str, Path]:
    """The modules that the function loads where there is nothing but Python."""
    named = f"ENTRY, TAKEN, ABSENT = {ENTRY!r}, {TAKEN!r}, {ABSENT!r}\n"
    done = subprocess.run([sys.executable, "-c", named + LOOK], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"the playground cannot be loaded in a browser:\n{done.stderr}")
    return {name: Path(path) for name, path in json.loads(done.stdout).items() if path}


if __name__ == "__main__":
    build()
