"""The import graph, from real git trees: languages, hostile texts, and what is remembered between two trees."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import grimp
import pygit2
import pytest

from bot.rules import impact
from bot.rules.impact import Graph
from bot.runners import impact as surveys
from bot.runners.impact import survey
from tests.e2e.world import ROOT


def tree(folder: Path, files: Mapping[str, str | bytes]) -> tuple[Path, str]:
    """A git dir that holds a tree of these files."""
    repo = pygit2.init_repository(str(folder / "repo.git"), bare=True)
    index = pygit2.Index()
    for path, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        index.add(pygit2.IndexEntry(path, repo.create_blob(data), pygit2.enums.FileMode.BLOB))
    return Path(repo.path), str(index.write_tree(repo))


def graph(folder: Path, files: Mapping[str, str | bytes]) -> Graph:
    return survey(*tree(folder, files))


def imports(found: Graph) -> dict[str, list[str]]:
    return {path: sorted(one) for path, one in found.imports.items() if one}


def test_python(tmp_path: Path) -> None:
    found = graph(
        tmp_path,
        {
            "src/pack/__init__.py": "from .core import Thing\n",
            "src/pack/core.py": "import os, json\nfrom . import (later as l,\n    extra,  # why\n)\nfrom .deep.inner import x\n",
            "src/pack/later.py": "def f():\n    import pack.extra\n",
            "src/pack/extra.py": '"""import pack.core"""\ns = "from pack import core"\n',
            "src/pack/deep/__init__.py": "",
            "src/pack/deep/inner.py": "from ...pack import core\nfrom ..core import *\n",
            "tests/test_core.py": "from pack.core import Thing\nfrom conftest import z\nfrom tests.other import q\n",
            "tests/conftest.py": "",
            "other/conftest.py": "",
            "tests/other.py": "import json\n",
            "json.pyi": "",
        },
    )
    assert imports(found) == {
        "src/pack/__init__.py": ["src/pack/core.py"],
        "src/pack/core.py": ["json.pyi", "src/pack/deep/inner.py", "src/pack/extra.py", "src/pack/later.py"],
        "src/pack/later.py": ["src/pack/extra.py"],
        "src/pack/deep/inner.py": ["src/pack/core.py"],
        "tests/test_core.py": ["src/pack/core.py", "tests/conftest.py", "tests/other.py"],
        "tests/other.py": ["json.pyi"],
    }


def test_python_s_edges_are_those_of_another_library(tmp_path: Path) -> None:
    """grimp, which is import-linter's engine, on this project's own packages."""
    packages = ("bot", "handlers", "schemas")
    files = {str(path.relative_to(ROOT)): path for one in packages for path in (ROOT / one).rglob("*.py")}
    found = graph(tmp_path, {name: path.read_bytes() for name, path in files.items()})

    def module(path: str) -> str:
        return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    ours = {(module(path), module(one)) for path, imported in found.imports.items() for one in imported}
    theirs = grimp.build_graph(*packages, cache_dir=None)
    known = {(one, other) for one in theirs.modules for other in theirs.find_modules_directly_imported_by(one)}
    sample = {pair for pair in ours if pair[0].startswith("bot.standin.sample")}  # a folder that is no package
    assert ours - sample == known and len(known) > 500


def test_javascript_and_typescript(tmp_path: Path) -> None:
    found = graph(
        tmp_path,
        {
            "tsconfig.json": '{ // paths\n "compilerOptions": {"paths": '
            '{"@app/*": ["packages/*/src"], "top": ["./packages/one/src/a.ts"],},} }',
            "package.json": '{"name": "root", "main": "lib/entry"}',
            "lib/entry.js": "module.exports = require('./used')",
            "lib/used.js": "const text = \"require('./entry')\" // import './entry'\n",
            "packages/one/package.json": '{"name": "@scope/one", "main": "dist/index.js"}',
            "packages/one/src/index.ts": "export * from './a'\nexport { type B } from './b.js'\n",
            "packages/one/src/a.ts": 'import x from "@app/two"\nimport type { C } from `nothing`\n',
            "packages/one/src/b.ts": "const lazy = () => import('./dir')\n",
            "packages/one/src/dir/index.tsx": "import '@scope/one'",
            "packages/two/src/index.ts": "import t = require('top')\nimport fs from 'fs'\n",
            "packages/two/App.vue": "<p>import './no'</p>\n<script setup lang=\"ts\">\nimport { a } from './src'\n</script>",
            "test/entry.test.mjs": "import root from '..'\n",
        },
    )
    assert imports(found) == {
        "lib/entry.js": ["lib/used.js"],
        "packages/one/src/index.ts": ["packages/one/src/a.ts", "packages/one/src/b.ts"],
        "packages/one/src/a.ts": ["packages/two/src/index.ts"],
        "packages/one/src/b.ts": ["packages/one/src/dir/index.tsx"],
        "packages/one/src/dir/index.tsx": ["packages/one/src/index.ts"],
        "packages/two/src/index.ts": ["packages/one/src/a.ts"],
        "packages/two/App.vue": ["packages/two/src/index.ts"],
        "test/entry.test.mjs": ["lib/entry.js"],
    }


def test_go(tmp_path: Path) -> None:
    found = graph(
        tmp_path,
        {
            "go.mod": "module example.org/tool\n\ngo 1.22\n",
            "main.go": 'package main\nimport (\n\t"fmt"\n\tlib "example.org/tool/sub"\n)\nfunc main() { lib.Run(help()) }\n',
            "help.go": 'package main\nfunc help() string { return "" }\nfunc unused() {}\n',
            "sub/run.go": "package sub\nfunc Run() int { return inner() }\n",
            "sub/inner.go": "package sub\nfunc inner() int { return 1 }\n",
            "sub/run_test.go": 'package sub_test\nimport "example.org/tool/sub"\nfunc TestRun(t *T) { sub.Run(); Run2() }\n',
            "sub/more_test.go": "package sub_test\nfunc Run2() {}\nfunc inner() {}\n",
            "plug/plug.go": 'package plug\nimport _ "example.org/tool/sub"\n',
        },
    )
    assert imports(found) == {
        "main.go": ["help.go", "sub/run.go"],
        "sub/run.go": ["sub/inner.go"],
        "sub/run_test.go": ["sub/more_test.go", "sub/run.go"],
        "plug/plug.go": ["sub/inner.go", "sub/run.go"],
    }


def test_rust(tmp_path: Path) -> None:
    found = graph(
        tmp_path,
        {
            "Cargo.toml": '[package]\nname = "my-tool"\n',
            "src/lib.rs": "pub mod a;\nmod b;\nmod inline { use super::*; }\n",
            "src/a.rs": "use crate::b::{self, deep::{Thing as T, other}, Own};\nmod tests { use super::*; }\n",
            "src/b/mod.rs": "pub mod deep;\npub use self::deep::Thing;\n",
            "src/b/deep.rs": "use super::super::a;\nuse std::io;\n",
            "tests/all.rs": "use my_tool::a::f;\n",
        },
    )
    assert imports(found) == {
        "src/lib.rs": ["src/a.rs", "src/b/mod.rs"],
        "src/a.rs": ["src/b/deep.rs", "src/b/mod.rs"],
        "src/b/mod.rs": ["src/b/deep.rs"],
        "src/b/deep.rs": ["src/a.rs"],
        "tests/all.rs": ["src/a.rs"],
    }


def test_java_kotlin_php_c_and_ruby(tmp_path: Path) -> None:
    found = graph(
        tmp_path,
        {
            "app/src/main/java/a/b/One.java": "package a.b;\nimport a.c.*;\nimport static a.c.Three.f;\nclass One { Two two; }",
            "app/src/main/java/a/b/Two.java": 'package a.b;\nclass Two { String one = "One"; }\n',
            "app/src/main/java/a/c/Three.java": "package a.c;\npublic class Three {}\n",
            "app/src/main/java/a/c/Four.java": "package a.c;\nclass Four {}\n",
            "app/src/test/kotlin/OneTest.kt": "package a.b\nimport a.c.Four as F\nclass OneTest { val one = One() }\n",
            "php/src/Kernel.php": "<?php\nnamespace App\\Core;\nuse App\\Http\\{Request, Response as R};\n"
            "class Kernel extends Base {}",
            "php/src/Base.php": "<?php\nnamespace App\\Core;\nclass Base {}\n",
            "php/lib/Request.php": "<?php\nnamespace App\\Http;\nclass Request {}\n",
            "php/lib/Response.php": "<?php\nnamespace App\\Http;\nrequire_once __DIR__ . '/../boot.php';\nclass Response {}\n",
            "php/boot.php": "<?php\n",
            "c/src/main.c": '#include <stdio.h>\n#include "util.h"\n#include <tool/api.h>\n',
            "c/src/util.h": "",
            "other/util.h": "",
            "c/include/tool/api.h": "",
            "ruby/lib/gem/main.rb": "require 'json'\nrequire 'gem/part'\nrequire_relative 'near'\n",
            "ruby/lib/gem/part.rb": "",
            "ruby/lib/gem/near.rb": "# require 'gem/main'\n",
        },
    )
    assert imports(found) == {
        "app/src/main/java/a/b/One.java": ["app/src/main/java/a/b/Two.java", "app/src/main/java/a/c/Three.java"],
        "app/src/test/kotlin/OneTest.kt": ["app/src/main/java/a/b/One.java", "app/src/main/java/a/c/Four.java"],
        "php/src/Kernel.php": ["php/lib/Request.php", "php/lib/Response.php", "php/src/Base.php"],
        "php/lib/Response.php": ["php/boot.php"],
        "c/src/main.c": ["c/include/tool/api.h", "c/src/util.h"],
        "ruby/lib/gem/main.rb": ["ruby/lib/gem/near.rb", "ruby/lib/gem/part.rb"],
    }


def test_public_names_that_were_lost(tmp_path: Path) -> None:
    before = {
        "a.py": "def kept(): ...\ndef lost(): ...\n_private = 1\nclass Gone: ...\n",
        "b.ts": "export const x = 1, y = 2\nfunction own() {}\n",
        "c.js": "exports.one = 1\nmodule.exports.two = 2\n",
        "d.go": "package d\nfunc Public() {}\nfunc private() {}\ntype (\n\tT struct{}\n)\n",
        "e.rs": "pub fn shown() {}\nfn hidden() {}\n",
        "moved.py": "def f(): ...\n",
    }
    after = {
        "a.py": "def kept(): ...\n",
        "b.ts": "export const x = 1\n",
        "c.js": "",
        "d.go": "package d\n",
        "e.rs": "fn shown() {}\n",
    }
    old, new = graph(tmp_path / "old", before), graph(tmp_path / "new", after)
    assert impact.removed(old, new, before) == {
        "a.py": ("Gone", "lost"),
        "b.ts": ("y",),
        "c.js": ("one", "two"),
        "d.go": ("Public", "T"),
        "e.rs": ("shown",),
        "moved.py": ("f",),
    }
    assert not impact.removed(old, old, before)


HOSTILE: dict[str, bytes] = {
    "deep.py": b"(" * 300_000,
    "deep.js": b"[" * 150_000 + b"]" * 150_000,
    "deep.go": b"package p\nfunc f() {" + b"{" * 100_000,
    "nested.rs": b"use a::" + b"{" * 50_000 + b"b" + b"}" * 50_000 + b";",
    "wide.rs": b"use a::{" + b"b," * 100_000 + b"};",
    "minified.js": b"var a=function(){return 1};" * 35_000,
    "lines.js": b"a\n" * 100_000,
    "huge.py": b"import os\n" * 200_000,
    "imports.py": b"import good\n" * 80_000,
    "binary.py": b"import good\n\0\xff\xfe",
    "latin.py": b"# caf\xe9\nimport good\n",
    "empty.py": b"",
    "bad.rs": b"use " + b"::" * 10_000 + b"super" * 1000,
    "dots.py": b"from "
    + b"." * 5000
    + b" import x\nfrom ....... import (a, b, *, ,)\nimport\nfrom x import\nimport ,\n",
    "spec.ts": b"import x from '" + b"../" * 20_000 + b"etc/passwd'\nimport y from '/etc/passwd'\nimport z from ''\n",
    "odd.php": b"<?php\nuse A\\{\nnamespace \\;\nrequire $x . '/y.php';\n",
    "tsconfig.json": b'{"compilerOptions": {"paths": {"*": [1, null, {}], "@/*": "no", "a*b*c": ["*"]}, "baseUrl": 3}}',
    "package.json": b'{"name": ["x"], "main": {"y": 1}}',
    "Cargo.toml": b"package = 3\n",
    "sub/package.json": b"[" * 100_000,
    "sub/Cargo.toml": b"\xff\xfe",
    "go.mod": b"module \n",
    "good.py": b"",
}


@pytest.mark.slow
def test_hostile_texts_hold_nothing_up_and_hide_nothing_else(tmp_path: Path) -> None:
    git_dir, made = tree(tmp_path, HOSTILE)
    memory = tmp_path / "memory.jsonl"
    began = time.process_time()
    found = survey(git_dir, made, memory)
    assert time.process_time() - began < 5, "our own part of it"
    assert found.unread["huge.py"] == "too large" and found.unread["binary.py"] == "binary"
    for path in ("latin.py", "imports.py"):
        assert path in found.unread or found.imports[path] == {"good.py"}
    assert found.imports["latin.py"] == {"good.py"}
    assert len(found.unread) < 8
    again = survey(git_dir, made, memory)
    assert again == found  # and what ended a reader is not tried again
    assert all(path in HOSTILE for edges in found.imports.values() for path in edges)


def test_a_text_that_ends_its_reader_costs_one_file_and_many_of_them_one_survey_each_twenty(tmp_path: Path) -> None:
    slow = {f"slow{n:02}.py": f"# {n}\n" + "a = {1: [2, (3, 4)]}\n" * 45_000 for n in range(25)}
    git_dir, made = tree(tmp_path, {"a.py": "import z\n", **slow, "z.py": "import a\n"})
    memory = tmp_path / "memory.jsonl"
    first = survey(git_dir, made, memory, file_seconds=0.06)
    tired = [path for path, why in first.unread.items() if why == "no time"]
    assert 0 < len(tired) <= 6 and first.imports["a.py"] == {"z.py"}, "twenty deaths end a survey"
    second = survey(git_dir, made, memory, file_seconds=0.06)
    assert set(second.unread) == set(slow) and second.imports["z.py"] == {"a.py"}
    assert set(second.unread.values()) == {"it takes too much time or memory to read"}


def test_time_that_runs_out_leaves_files_out_until_the_next_survey(tmp_path: Path) -> None:
    git_dir, made = tree(tmp_path, {f"m{n}.py": f"import m{n + 1}\n" * 2000 for n in range(60)})
    memory = tmp_path / "memory.jsonl"
    hasty = survey(git_dir, made, memory, seconds=0.0)
    assert "no time" in hasty.unread.values() and len(hasty.files) == 60
    found = survey(git_dir, made, memory)
    assert not found.unread and found.imports["m0.py"] == {"m1.py"}


def test_what_is_remembered_is_what_would_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"m{n}.py": f"import m{(n * 7) % 50}\ndef f{n}(): ...\n" for n in range(50)}
    git_dir, made = tree(tmp_path, files)
    memory = tmp_path / "deep" / "memory.jsonl"
    cold = survey(git_dir, made, memory)
    _, changed = tree(tmp_path, files | {"m1.py": "import m2\n", "m60.py": "import m1\n", "m7.ts": files["m7.py"]})
    lines = memory.read_bytes().splitlines()
    warm = survey(git_dir, changed, memory)
    assert warm == survey(git_dir, changed) and warm != cold
    fresh = memory.read_bytes().splitlines()[len(lines) :]
    assert len(list(filter(None, fresh))) == 3, "only what is new was read (the same text in another language is)"
    # Cut in the middle of a line, as by a kill or a full disk, with another's lines behind; and altogether strange.
    memory.write_bytes(b"\n".join(lines[:25])[:-3] + b"\n\n\xff\xfe {}\n1python" + b"x" * 99)
    assert survey(git_dir, changed, memory) == warm
    assert survey(git_dir, changed, memory) == warm
    monkeypatch.setattr(surveys, "MAX_MEMORY", 10)
    survey(git_dir, made, memory)
    _, third = tree(tmp_path, {"one.py": "import two\n"})
    survey(git_dir, third, memory)
    kept = [json.loads(line.split(b" ", 1)[1]) for line in memory.read_bytes().splitlines() if line]
    assert len(kept) == 1, "a file that has grown too large begins anew"
