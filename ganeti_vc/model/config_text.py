# SPDX-License-Identifier: BSD-2-Clause
"""The text of a configuration file: the line of a key, and a change of one key that leaves the rest as it is.

configobj could write a changed file, but would indent and quote lines of the user's that nobody asked it to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SECTION = re.compile(r"(\[+)\s*(.*?)\s*\]+")
#: A value with the blanks around it: between three quotes, also on several lines; else up to a comment.
_VALUE = re.compile(r'''[ \t]*(?:"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|(?:"[^"\r\n]*"|'[^'\r\n]*'|[^#\r\n])*)''')


def line_of(text: str, sections: Iterable[str], key: str) -> int:
    """Return the number of the line of a key, counted from 1; with an empty key, of a section. 0: there is none.

    `sections` is the way to the key: a section, and within it a subsection.
    """
    wanted, current = list(sections), [""]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if match := _SECTION.match(stripped):
            depth = len(match[1])
            current = [*current[: depth - 1], match[2].strip("'\"")] if depth > 1 else [match[2].strip("'\"")]
            if not key and current == wanted:
                return number
        elif key and current == wanted and re.match(rf"['\"]?{re.escape(key)}['\"]?\s*=", stripped):
            return number
    return 0


def replace_key(text: str, section: str, key: str, value: str) -> str:
    """Return the text with another value of one key; every other line, and a comment behind the value, stay.

    `value` is put in as it is: what has to stand in quotes must come with them. A key, or a section, that is missing is
    added.
    """
    lines = text.splitlines(keepends=True)
    number = line_of(text, [section], key)
    if number:
        before, line, behind = "".join(lines[: number - 1]), lines[number - 1], "".join(lines[number:])
        name, _, rest = line.partition("=")
        rest += behind
        match = _VALUE.match(rest)
        assert match  # it matches nothing at all as well
        return f"{before}{name.rstrip()} = {value}{rest[len(match[0].rstrip()) :]}"
    number = line_of(text, [section], "")
    lines[number:number] = [f"{key} = {value}\n"] if number else [f"[{section}]\n{key} = {value}\n"]
    return "".join(lines)
