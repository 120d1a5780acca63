# SPDX-License-Identifier: BSD-2-Clause
"""The layers: each package imports only from those that its line names, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ganeti_vc"
MAY_IMPORT = {
    "base": "",
    "model": "base",
    "node": "base",
    "machine": "base model node",
    "reconcile": "base model node machine",
    "sandbox": "base model node",
    "operations": "base model node machine reconcile",
    "cli": "base model node machine reconcile sandbox operations",
}
#: Imported at each start of a daemon: nothing but what comes with Python.
LIGHT = ("base/constants.py", "node/")
#: The fork server alone needs it: Ganeti's own daemons set their titles by it.
FOREIGN_IN_NODE = {"setproctitle"}
SOURCES = sorted(PACKAGE.glob("*/**/*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def for_type_checkers(tree: ast.AST) -> set[int]:
    """Nodes that are never run."""
    return {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(outer)
    }


def imports(path: Path, in_functions: bool = True) -> Iterator[str]:
    """Dotted names that a module imports, without those for type checkers."""
    tree = ast.parse(path.read_text())
    skipped = for_type_checkers(tree)
    for node in ast.walk(tree) if in_functions else ast.iter_child_nodes(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str:
    """The module of ours in which a dotted name is."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name if path.with_suffix(".py").exists() or path.is_dir() else name.rpartition(".")[0]


def test_every_package_has_a_layer() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in SOURCES} == set(MAY_IMPORT)
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def from_above(path: Path, package: Path = PACKAGE) -> set[str]:
    """Layers that a module imports, and must not."""
    layer = path.relative_to(package).parts[0]
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("ganeti_vc.")} - {"VERSION"}
    return ours - {layer, *MAY_IMPORT[layer].split()}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_imports_only_from_below(path: Path) -> None:
    assert from_above(path) == set()


@pytest.mark.parametrize(
    ("layer", "line", "above"),
    [
        ("base", "from ganeti_vc.cli import output", {"cli"}),
        ("machine", "def f():\n    from ganeti_vc.reconcile.state import Ledger", {"reconcile"}),
        ("sandbox", "from ganeti_vc.machine import systemd", {"machine"}),
        ("cli", "from ganeti_vc.base import files", set()),
        ("base", "if TYPE_CHECKING:\n    from ganeti_vc.cli import output", set()),
    ],
)
def test_an_arrow_upwards_is_found(tmp_path: Path, layer: str, line: str, above: set[str]) -> None:
    module = tmp_path / layer / "module.py"
    module.parent.mkdir()
    module.write_text(f"{line}\n")
    assert from_above(module, tmp_path) == above


def test_no_modules_import_each_other() -> None:
    graph = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): {
            module_of(name) for name in imports(path, in_functions=False) if name.startswith("ganeti_vc.")
        }
        for path in SOURCES
        if path.name != "__init__.py"
    }
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names them


@pytest.mark.parametrize("path", [path for path in SOURCES if relative(path).startswith(LIGHT)], ids=relative)
def test_what_each_daemon_imports_comes_with_python(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"ganeti_vc"}
    assert foreign <= (FOREIGN_IN_NODE if path.name.startswith("fork") else set())


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=relative)
def test_packages_are_only_folders(path: Path) -> None:
    """They are read at each start of a daemon: a docstring, and no code."""
    assert len(ast.parse(path.read_text()).body) == 1


def test_the_parser_can_be_imported_where_the_package_is_built() -> None:
    """man/generate imports it, and debian/control has only python3-configobj then."""
    script = "import sys; sys.modules.update(dict.fromkeys(['pystemd', 'pyroute2', 'rich', 'setproctitle']))\n"
    script += "import ganeti_vc.cli.parser, ganeti_vc.operations.bench.figures, ganeti_vc.operations.qa.suite"
    subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, check=True)
