# SPDX-License-Identifier: BSD-2-Clause
"""Modules imported for no node in particular, moved to one: every way in which Ganeti's hold a path."""

from __future__ import annotations

import re
import sys
import types
from collections import namedtuple
from collections.abc import Iterator

import pytest

from ganeti_vc.node import relocation
from ganeti_vc.node.relocation import BASE, NODE, Places

Pair = namedtuple("Pair", "path mode")


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A package with a marker in each kind of place."""
    made = types.ModuleType("fakeganeti")
    sys.modules["fakeganeti"] = made
    source = """
ROOT = MARK + "/var"
TABLE = {"x": [(MARK, 1), {"deep": {MARK}}]}
KEYS = {MARK: 1}
SHARED = [MARK]
ALIAS = SHARED
FROZEN = frozenset([MARK])
def default(path=MARK, *, key=MARK + "/k"):
    return path, key
def closure(value=None):
    kept = MARK
    return lambda: kept
CLOSURE = closure()
class Class:
    ATTRIBUTE = MARK
    class Inner:
        ATTRIBUTE = MARK
    @staticmethod
    def method(path=MARK):
        return path
    @property
    def name(self, path=MARK):
        return path
class Instance:
    def __init__(self):
        self.path = MARK
INSTANCE = Instance()
"""
    made.__dict__["MARK"] = f"{BASE}/{NODE}"
    exec(source, made.__dict__)
    made.__dict__["NAMED"] = Pair(f"{BASE}/{NODE}/x", 1)
    yield made
    del sys.modules["fakeganeti"]


def test_every_place_is_moved(module: types.ModuleType) -> None:
    root = "/var/lib/c/node1"
    Places("fakeganeti").move(root)
    names = vars(module)
    assert names["ROOT"] == f"{root}/var" and names["KEYS"] == {root: 1} and names["FROZEN"] == {root}
    assert names["TABLE"] == {"x": [(root, 1), {"deep": {root}}]}
    assert names["SHARED"] == [root] and names["ALIAS"] is names["SHARED"]
    assert names["default"]() == (root, f"{root}/k") and names["CLOSURE"]() == root
    cls = names["Class"]
    assert (cls.ATTRIBUTE, cls.Inner.ATTRIBUTE, cls.method(), cls().name, names["INSTANCE"].path) == (root,) * 5
    assert names["NAMED"] == Pair(f"{root}/x", 1) and isinstance(names["NAMED"], Pair)


def test_what_is_missed_is_found() -> None:
    assert relocation.leftovers() == []
    hidden = [re.compile(re.escape(f"{BASE}/x")), types.SimpleNamespace(path=f"{NODE}-in-an-object")]
    found = relocation.leftovers()
    assert {f"'{NODE}-in-an-object'", f"re.compile('{BASE}/x')"} <= set(found)
    hidden.clear()
