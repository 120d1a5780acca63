# SPDX-License-Identifier: BSD-2-Clause
"""The text of a configuration file: on which line a key stands, and changing one key only."""

from __future__ import annotations

import re
from collections.abc import Iterable


def line_of(text: str, sections: Iterable[str], key: str) -> int:
    """Number of the line on which a key (or, with an empty key, a section) stands; 0 if nowhere."""
    wanted, current = list(sections), [""]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if match := re.match(r"(\[+)\s*(.*?)\s*\]+", stripped):
            depth = len(match[1])
            current = [*current[: depth - 1], match[2].strip("'\"")] if depth > 1 else [match[2].strip("'\"")]
            if not key and current == wanted:
                return number
        elif key and current == wanted and re.match(rf"['\"]?{re.escape(key)}['\"]?\s*=", stripped):
            return number
    return 0


def replace_key(text: str, section: str, key: str, value: str) -> str:
    """The text of a configuration file with one key set; every other line stays as it is."""
    lines = text.splitlines(keepends=True)
    number = line_of(text, [section], key)
    if number:
        lines[number - 1] = re.sub(r"=[ \t]*[^#\s]*", f"= {value}", lines[number - 1], count=1)
        return "".join(lines)
    number = line_of(text, [section], "")
    lines[number:number] = [f"{key} = {value}\n"] if number else [f"[{section}]\n{key} = {value}\n"]
    return "".join(lines)
