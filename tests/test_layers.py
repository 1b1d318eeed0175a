"""Imports go downward, stay light, and are all declared."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = tuple(sorted((ROOT / "cascade").rglob("*.py")))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Only a face may lean on an optional dependency as it is imported; everything else imports one where it is used.
FACES = ("cli", "dashboard", "emulator", "gateway")
HEAVY = {
    "aiohttp", "anthropic", "anyio", "click", "distributed", "duckdb", "h11", "httpcore2", "httpx2", "jinja2", "json_repair", "jsonschema_rs", "numpy",
    "openai", "pyarrow", "rich", "starlette", "typer", "uvicorn", "zstandard",
}  # fmt: skip

# Part of another's own interface: pydantic pins its core exactly and wants the other's TypedDict before Python 3.12; the SDK
# lets errors of its transport through; aiohttp takes headers as a multidict, and uvicorn[standard] brings its loop.
BROUGHT = {
    "pydantic-core": "pydantic", "typing-extensions": "pydantic", "httpx2": "anthropic", "multidict": "aiohttp",
    "yarl": "aiohttp", "uvloop": "uvicorn",
}  # fmt: skip
NAMESPACES = {"opentelemetry": "opentelemetry-api"}  # several distributions bring a part of it: the one that is meant
HOSTS = {"pytest"}  # what loads a plugin of ours is there already: we ask nobody to install it


def imports_of(tree: ast.AST, *, deferred: bool = True) -> Iterator[str]:
    """Yield the top-level name of each absolute import; without `deferred`, only those that importing the module runs."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.FunctionDef() | ast.AsyncFunctionDef() if not deferred:
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not deferred:
                yield from imports_of(ast.Module(node.orelse, []), deferred=deferred)
            case _:
                yield from imports_of(node, deferred=deferred)


@cache
def parse(path: Path) -> ast.Module:
    """Parse one file of the package."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def foreign(tree: ast.AST, *, deferred: bool = True) -> set[str]:
    """Name the packages a module imports that are neither the standard library's nor our own."""
    return set(imports_of(tree, deferred=deferred)) - sys.stdlib_module_names - {"cascade"}


def distributions(packages: set[str]) -> set[str]:
    """Name the distributions to ask for, so that these packages can be imported."""
    known = installed()
    found = {
        NAMESPACES.get(name) or normal(known[name][0]) if name in known else f"{name} (not installed)"
        for name in packages
    }
    return {BROUGHT.get(name, name) for name in found}


@lru_cache(maxsize=1)
def installed() -> Mapping[str, list[str]]:
    """Which distributions bring a package: reading all their records takes half a second."""
    return importlib.metadata.packages_distributions()


def normal(requirement: str) -> str:
    """Reduce a requirement to its distribution's normalized name."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def module_name(path: Path) -> str:
    """Name the module that a file of the package holds."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def relative(path: Path) -> str:
    """Show a file as its path in the checkout."""
    return path.relative_to(ROOT).as_posix()


def test_imports_go_only_downward() -> None:
    """Every import-linter contract of pyproject.toml is kept."""
    command = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_cascade_is_light() -> None:
    """A fresh interpreter that imports `cascade` loads no vendor SDK, no array library, no face and no face's dependency."""
    command = "import sys, json, cascade; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded: list[str] = json.loads(done.stdout)
    assert "cascade" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert [name for name in loaded if name.startswith(tuple(f"cascade.{face}" for face in FACES))] == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_module_exports_what_it_says(path: Path) -> None:
    """Every module has an `__all__`, and every name in it exists once; only a package's bare docstring needs none."""
    body = parse(path).body
    bare = all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
    if path.name == "__main__.py" or (path.name == "__init__.py" and bare):
        return
    module = importlib.import_module(module_name(path))
    exported = getattr(module, "__all__", None)
    assert exported is not None, f"{relative(path)} has no __all__"
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(module, name)] == []


def test_core_knows_the_standard_library_and_pydantic_only() -> None:
    """Nothing else is imported anywhere in `cascade.core`, not even for a type.

    `typing_extensions` is the standard library's `typing` of later versions, which pydantic brings.
    """
    seen = {relative(path): foreign(parse(path)) for path in FILES if path.is_relative_to(ROOT / "cascade" / "core")}
    assert seen
    assert {
        path: names for path, names in seen.items() if names - {"pydantic", "pydantic_core", "typing_extensions"}
    } == {}


def test_dependencies_are_those_the_code_imports() -> None:
    """What pyproject.toml asks for, extras but `dev` included, is exactly what the package imports."""
    extras = {name: set(map(normal, wanted)) for name, wanted in PROJECT["optional-dependencies"].items()}
    declared = set(map(normal, PROJECT["dependencies"])).union(
        *(wanted for name, wanted in extras.items() if name not in {"all", "dev"})
    )
    imported = set().union(*(foreign(parse(path)) for path in FILES))
    assert distributions(imported - HOSTS) == declared


def test_only_faces_need_an_extra_to_be_imported() -> None:
    """Outside the faces, what is imported with a module is a core dependency: an extra is imported where it is used."""
    core = set(map(normal, PROJECT["dependencies"]))
    plain = [path for path in FILES if path.relative_to(ROOT / "cascade").parts[0].removesuffix(".py") not in FACES]
    needed = {relative(path): distributions(foreign(parse(path), deferred=False)) for path in plain}
    assert {path: wanted for path, wanted in needed.items() if not wanted <= core} == {}
