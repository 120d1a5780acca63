# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's Python modules, imported once with markers for a node, and moved to a real node in each forked child.

Ganeti builds its paths as it is imported, from GANETI_ROOTDIR and GANETI_HOSTNAME (lib/pathutils.py, lib/vcluster.py). With
markers in these variables, the modules are the same for all nodes, except for the values that hold a marker. `Places`
lists those once, `move` rewrites them in a forked child, and `leftovers` searches everything that the garbage collector
knows for a value that was missed.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import types
from typing import Any

#: Letters only: nothing that quotes a text changes them.
BASE = "/ganetivclusterbasemarker"
NODE = "ganetivclusternodemarker"
_MARKERS = (BASE, NODE)
#: Containers within containers are followed this far: Ganeti's tables of options are three deep.
_DEPTH = 8


def marked_environment() -> dict[str, str]:
    """Return Ganeti's two variables for the import."""
    return {"GANETI_ROOTDIR": f"{BASE}/{NODE}", "GANETI_HOSTNAME": NODE}


def _marked_text(value: object) -> bool:
    if isinstance(value, bytes):
        return any(marker.encode() in value for marker in _MARKERS)
    if isinstance(value, re.Pattern):
        return _marked_text(value.pattern)
    return isinstance(value, str) and any(marker in value for marker in _MARKERS)


def _marked(value: object, depth: int = 0) -> bool:
    if isinstance(value, dict):
        return depth < _DEPTH and any(_marked(k, depth + 1) or _marked(v, depth + 1) for k, v in value.items())
    if isinstance(value, (tuple, list, set, frozenset)):
        return depth < _DEPTH and any(_marked(item, depth + 1) for item in value)
    return _marked_text(value)


class Places:
    """The places where modules hold a marker: an owner, and the way to its value."""

    def __init__(self, package: str) -> None:
        self._found: list[tuple[str, Any, Any]] = []
        self._seen: set[int] = set()
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == package:
                self._namespace(vars(module))

    def __len__(self) -> int:
        return len(self._found)

    def _namespace(self, names: dict[str, Any]) -> None:
        for key, value in list(names.items()):
            if _marked(value):
                self._found.append(("item", names, key))
            elif isinstance(value, type):
                self._class(value)
            else:
                self._function(value)
                inner = getattr(value, "__dict__", None)  # an instance on module level
                if isinstance(inner, dict) and not isinstance(value, types.ModuleType) and id(inner) not in self._seen:
                    self._seen.add(id(inner))
                    self._found += [("item", inner, k) for k, v in list(inner.items()) if _marked(v)]

    def _class(self, cls: type) -> None:
        if id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        for key, value in list(vars(cls).items()):
            if _marked(value):
                self._found.append(("attribute", cls, key))
            elif isinstance(value, type):
                self._class(value)
            elif isinstance(value, property):
                for function in (value.fget, value.fset, value.fdel):
                    self._function(function)
            else:
                self._function(value)

    def _function(self, value: object) -> None:
        function = getattr(value, "__func__", value)
        if not isinstance(function, types.FunctionType) or id(function) in self._seen:
            return
        self._seen.add(id(function))
        for name in ("__defaults__", "__kwdefaults__"):
            if _marked(getattr(function, name)):
                self._found.append(("attribute", function, name))
        for cell in function.__closure__ or ():
            try:
                contents = cell.cell_contents
            except ValueError:  # empty
                continue
            if _marked(contents):
                self._found.append(("attribute", cell, "cell_contents"))
            self._function(contents)

    def move(self, rootdir: str) -> None:
        """Rewrite every place for the node with this directory. Call it only once in a process."""
        base, node = os.path.split(rootdir)
        for kind, owner, key in self._found:
            if kind == "item":
                owner[key] = _moved(owner[key], base, node)
            else:
                value = vars(owner)[key] if isinstance(owner, type) else getattr(owner, key)
                setattr(owner, key, _moved(value, base, node))


def _moved(value: Any, base: str, node: str) -> Any:
    """Return the value without markers. Lists, sets and dictionaries stay the same objects, as others may hold them."""
    if isinstance(value, str):
        return value.replace(BASE, base).replace(NODE, node)
    if isinstance(value, dict):
        items = [(_moved(k, base, node), _moved(v, base, node)) for k, v in value.items()]
        value.clear()
        value.update(items)
    elif isinstance(value, list):
        value[:] = [_moved(item, base, node) for item in value]
    elif isinstance(value, set):
        items = [_moved(item, base, node) for item in value]
        value.clear()
        value.update(items)
    elif isinstance(value, (tuple, frozenset)):
        moved = [_moved(item, base, node) for item in value]
        return type(value)(*moved) if hasattr(value, "_fields") else type(value)(moved)
    return value


def leftovers() -> list[str]:
    """Return the texts that still hold a marker, in everything that the garbage collector reaches."""
    left: list[str] = []
    tracked = gc.get_objects()
    own = {id(left), id(tracked)}
    waiting = [thing for thing in tracked if id(thing) not in own and not isinstance(thing, types.FrameType)]
    seen: set[int] = set()
    while waiting:
        for value in gc.get_referents(waiting.pop()):
            if _marked_text(value) and value is not BASE and value is not NODE:
                left.append(repr(value))
            elif isinstance(value, (dict, tuple, frozenset)) and not gc.is_tracked(value) and id(value) not in seen:
                seen.add(id(value))  # containers of nothing but texts are not tracked
                waiting.append(value)
    return left
