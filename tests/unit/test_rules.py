# SPDX-License-Identifier: BSD-2-Clause
"""The rules of CONTRIBUTING.md that no linter knows: lengths, docstrings, names, words, and paths that exist.

Each rule is a function from a source text to what breaks it, so that its test below can show that it fails.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganeti_vc import VERSION

ROOT = Path(__file__).resolve().parents[2]
MAX_MODULE = 400  #: lines
MAX_FUNCTION = 60  #: lines
#: A function of more lines than this needs a docstring; a shorter one may be said by its name.
MAX_UNDOCUMENTED = 2
#: Words that a reader has to decode. In code, comments, messages and manuals.
FORBIDDEN = re.compile(
    r"\b(mend(s|ed|ing)?|anew|whoever|nobodys|those there are|its like|say --\w+|(he|his|him)(?= \w)|"
    r"is no (whole|number|list|size|host name|domain|tag|time|range|port|package)|as [\w.=()-]+ has it)\b",
    re.IGNORECASE,
)
#: Places in the source tree that a text names.
PATH = re.compile(r"(?<![\w/.-])((?:ganeti_vc|tools|tests|units|man|os|debian)/[\w./@-]*\w)")
#: Of Ganeti's own sources, and of trees that are made.
FOREIGN_PATHS = ("tools/vcluster-setup", "tools/master-ip-setup", "tools/move-instance")


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository; outside of a checkout, all files."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    names = [ROOT / name for name in listed if name]
    names = names or [path for pattern in patterns for path in ROOT.glob(f"{pattern}/**/*")]
    return [path for path in names if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


PACKAGE = [path for path in tracked("ganeti_vc") if path.suffix == ".py"]
PYTHON = [
    path
    for path in tracked("ganeti_vc", "tools", "man", "tests")
    if path.suffix == ".py" or "python3" in path.read_text().partition("\n")[0]
]
TEXTS = [
    path
    for path in tracked("ganeti_vc", "tools", "tests", "units", "man", "os", "debian", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile")
    if path != Path(__file__)
]  # fmt: skip


def long_parts(text: str) -> Iterator[str]:
    """The module, and functions, that are too long; a comment `# long: REASON` above a function allows that."""
    lines = text.splitlines()
    if len(lines) > MAX_MODULE:
        yield f"{len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION and not lines[first - 2].strip().startswith("# long: "):
                yield f"{node.name}: {length} lines"


def undocumented(text: str) -> Iterator[str]:
    """The module, and public classes and functions, that lack a docstring."""
    tree = ast.parse(text)
    if not ast.get_docstring(tree):
        yield "the module"

    def within(parent: ast.Module | ast.ClassDef) -> Iterator[str]:
        for node in parent.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                body = (node.end_lineno or 0) - node.body[0].lineno + 1
                if not ast.get_docstring(node) and (isinstance(node, ast.ClassDef) or body > MAX_UNDOCUMENTED):
                    yield node.name
                if isinstance(node, ast.ClassDef):
                    yield from within(node)

    yield from within(tree)


def forbidden_words(text: str) -> list[str]:
    return [match[0] for match in FORBIDDEN.finditer(text)]


def missing_paths(text: str) -> list[str]:
    """Paths of this source tree that a text names and that do not exist."""
    named = {match[1] for match in PATH.finditer(text)} - set(FOREIGN_PATHS)
    return sorted(
        name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}*")) and "NAME" not in name
    )


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_nothing_is_long(path: Path) -> None:
    text = path.read_text()
    if path.parts[-2] == "system" and "# long: " in text.split('"""')[0]:
        return
    assert list(long_parts(text)) == []


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_everything_public_is_documented(path: Path) -> None:
    assert list(undocumented(path.read_text())) == []


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_words_are_plain(path: Path) -> None:
    assert forbidden_words(path.read_text()) == []


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_paths_exist(path: Path) -> None:
    assert missing_paths(path.read_text()) == []


def test_no_class_has_two_meanings() -> None:
    classes = Counter(
        node.name
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in classes.items() if count > 1] == []


def test_the_version_is_that_of_the_package() -> None:
    changelog = (ROOT / "debian/changelog").read_text()
    assert changelog.startswith(f"ganeti-vcluster ({VERSION})")


def test_the_rules_can_fail() -> None:
    long = "def long():\n" + "    print()\n" * MAX_FUNCTION
    assert list(long_parts(long)) == [f"long: {MAX_FUNCTION + 1} lines"]
    assert list(long_parts(f"# long: it is a table\n{long}")) == []
    assert list(long_parts("#\n" * (MAX_MODULE + 1))) == [f"{MAX_MODULE + 1} lines"]
    assert list(undocumented("class A:\n    def b(self):\n        x = 1\n        y = 2\n        return x + y\n")) == [
        "the module", "A", "b"]  # fmt: skip
    assert forbidden_words("Whoever mends it, say --yes: as view.py has it, 'x' is no size") == [
        "Whoever", "mends", "say --yes", "as view.py has it", "is no size"]  # fmt: skip
    assert forbidden_words("there is no cluster; the history of this; amend it") == []
    gone = "tools/" + "gone"
    assert missing_paths(f"see {gone}, tools/units/launch and /usr/share/tools/x") == [gone]
