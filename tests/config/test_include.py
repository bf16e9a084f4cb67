"""Files that are included: where they are looked for, where their problems are, and where it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.config import Loaded, load
from sentinel.config.load import CHAIN_MAX, FILES_MAX

HEAD = 'schema-version "1.0"\nlisteners { listener "web" { address "127.0.0.1:8080"; }; }\n'


def route(name: str) -> str:
    return f'route "{name}" {{ matches {{ path "/{name}"; }}; respond 200; }}\n'


def write(directory: Path, **files: str) -> Loaded:
    for name, text in files.items():
        path = directory / (name.replace("__", "/") + ".kdl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load(str(directory / "main.kdl"), now_s=0)


def names(loaded: Loaded) -> list[str]:
    assert loaded.plan is not None, loaded.problems
    return [one.name for one in loaded.plan.routes]


def problem(loaded: Loaded) -> str:
    (one,) = loaded.problems
    return f"{Path(one.span.file).name}:{one.span.line}:{one.span.column}: {one.message}"


def test_files_come_in_the_order_of_their_names_where_the_include_stands(tmp_path: Path) -> None:
    main = HEAD + "routes {\n" + route("first") + 'include "conf.d/*.kdl"\n' + route("last") + "}"
    loaded = write(tmp_path, main=main, conf_d="", conf__b=route("b"))
    assert names(loaded) == ["first", "last"]
    assert "no file matches" in loaded.warnings[0].message
    (tmp_path / "conf.d").mkdir()
    for name in ("20", "10"):
        (tmp_path / "conf.d" / f"{name}.kdl").write_text(route(f"r{name}"))
    again = load(str(tmp_path / "main.kdl"), now_s=0)
    assert names(again) == ["first", "r10", "r20", "last"]
    assert again.plan is not None
    assert [Path(one).name for one in again.plan.sources] == ["main.kdl", "10.kdl", "20.kdl"]


def test_a_pattern_is_relative_to_the_file_that_says_it(tmp_path: Path) -> None:
    main = HEAD + 'include "sub/tables.kdl"\n'
    loaded = write(tmp_path, main=main, sub__tables='routes { include "deep/one.kdl"\n}', sub__deep__one=route("x"))
    assert names(loaded) == ["x"]


def test_an_included_file_may_say_the_version_and_only_the_same(tmp_path: Path) -> None:
    main = HEAD + 'routes { include "one.kdl"\n}'
    assert names(write(tmp_path, main=main, one='schema-version "1.0"\n' + route("x"))) == ["x"]
    assert "one.kdl:1:1" in problem(write(tmp_path, main=main, one='schema-version "0.9"\n' + route("x")))


def test_a_problem_is_in_the_file_where_it_is_written(tmp_path: Path) -> None:
    main = HEAD + 'routes { include "one.kdl"\n}'
    assert problem(write(tmp_path, main=main, one="\n  rout 1\n")) == "one.kdl:2:3: `rout` is not known in `routes`"
    assert problem(write(tmp_path, main=main, one="oops {")).startswith("one.kdl:1:6: not KDL")


def test_duplicates_across_files_name_both_places(tmp_path: Path) -> None:
    loaded = write(tmp_path, main=HEAD + 'routes { include "*e.kdl"\n}', one=route("x"), twice=route("x"))
    assert problem(loaded) == "twice.kdl:1:7: there are two `route` with the name `x`"
    ((span, _),) = loaded.problems[0].also
    assert Path(span.file).name == "one.kdl"


def test_a_file_that_is_not_there_is_told_at_the_include(tmp_path: Path) -> None:
    loaded = write(tmp_path, main=HEAD + 'routes { include "none.kdl"\n}')
    assert problem(loaded).startswith("main.kdl:3:18: ")
    assert "none.kdl cannot be read: No such file" in problem(loaded)


def test_circles_are_found_also_through_links(tmp_path: Path) -> None:
    loaded = write(tmp_path, main=HEAD + 'include "a.kdl"', a='include "b.kdl"', b='include "link.kdl"')
    assert "cannot be read" in problem(loaded)
    (tmp_path / "link.kdl").symlink_to(tmp_path / "a.kdl")
    assert problem(load(str(tmp_path / "main.kdl"))).startswith("b.kdl:1:9: files include each other in a circle: ")


def test_depth_and_number_are_bounded(tmp_path: Path) -> None:
    files = {f"f{number}": f'include "f{number + 1}.kdl"' for number in range(CHAIN_MAX + 2)}
    assert "deep" in problem(write(tmp_path, main=HEAD + 'include "f0.kdl"', **files))
    many = tmp_path / "many"
    many.mkdir()
    for number in range(FILES_MAX + 1):
        (many / f"{number}.kdl").write_text("")
    assert f"more than {FILES_MAX} files" in problem(write(tmp_path, main=HEAD + 'routes { include "many/*"\n}'))


@pytest.mark.parametrize(
    "written", ["include", "include 1", 'include "a" "b"', 'include "a" k=1', 'include "a" { b; }']
)
def test_an_include_is_one_pattern(tmp_path: Path, written: str) -> None:
    assert "`include` takes one pattern" in problem(write(tmp_path, main=HEAD + written))
