# SPDX-License-Identifier: BSD-2-Clause
"""Changing one key in the text of a configuration file."""

from __future__ import annotations

import pytest
from configobj import ConfigObj

from ganeti_vc.model.config_text import line_of, replace_key


def test_replacing_a_key_leaves_the_rest_alone() -> None:
    text = "# mine\n[cluster]\n  nodes = 3   # three\ndomain = x\n"
    assert replace_key(text, "cluster", "nodes", "5") == text.replace("= 3 ", "= 5 ")


def test_a_key_that_is_missing_comes_first_in_its_section() -> None:
    assert replace_key("[cluster]\nname = a\n", "cluster", "nodes", "5") == "[cluster]\nnodes = 5\nname = a\n"
    assert replace_key("[cluster]\n", "nodes", "memory", "2G") == "[nodes]\nmemory = 2G\n[cluster]\n"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("rapi = -d --foo", "rapi = NEW"),  # the whole value, not its first word
        ('rapi = "a b"', "rapi = NEW"),
        ('rapi = "a b", c  # why', "rapi = NEW  # why"),
        ("rapi = 'a # b'   # why", "rapi = NEW   # why"),
        ("rapi =", "rapi = NEW"),
        ("rapi=  # nothing", "rapi = NEW  # nothing"),
        ("  'rapi' = -d", "  'rapi' = NEW"),
        ("rapi = a = b", "rapi = NEW"),
        ('rapi = """a\nb = c\n"""', "rapi = NEW"),
        ('rapi = """a"""  # why', "rapi = NEW  # why"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_whole_value_is_replaced(line: str, changed: str, end: str) -> None:
    before, behind = f"[daemons]{end}noded = 1{end}", f"{end}mond = 2{end}[nodes]{end}cpus = 1"
    text = before + line.replace("\n", end) + behind
    assert replace_key(text, "daemons", "rapi", "NEW") == before + changed + behind


@pytest.mark.parametrize("value", [r"\d", r"\1", r"\g<0>", "-b 192.0.2.10 --foo", "a, b"])
def test_a_value_is_no_pattern(value: str) -> None:
    text = replace_key("[daemons]\nrapi = -d\n", "daemons", "rapi", value)
    assert text == f"[daemons]\nrapi = {value}\n"
    assert ConfigObj(text.splitlines(), list_values=False, interpolation=False)["daemons"]["rapi"] == value


def test_only_the_key_of_that_section_changes() -> None:
    text = "[a]\nkey = 1\n[b]\nkey = 2\n[[c]]\nkey = 3\n"
    assert replace_key(text, "b", "key", "9") == "[a]\nkey = 1\n[b]\nkey = 9\n[[c]]\nkey = 3\n"


def test_the_line_of_a_key() -> None:
    text = "[nodes]\nmemory = 1G\n[[node1]]\nmemory = 2G\n"
    assert line_of(text, ["nodes"], "memory") == 2
    assert line_of(text, ["nodes", "node1"], "memory") == 4
    assert line_of(text, ["nodes", "node1"], "") == 3
    assert line_of(text, ["cluster"], "name") == 0
