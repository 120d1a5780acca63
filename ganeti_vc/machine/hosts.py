# SPDX-License-Identifier: BSD-2-Clause
"""Our blocks in /etc/hosts, one per cluster; every other byte stays as it is.

A block stands at the end of the file between two marker lines. If the file did not end in a line
break, the first marker says so, and removing the block takes the line break away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.model import names
from ganeti_vc.model.addresses import Address
from ganeti_vc.model.names import ClusterId

_NO_NEWLINE = " (line break before this line added)"


def _pattern(cluster: ClusterId) -> re.Pattern[str]:
    name = re.escape(cluster.name)
    return re.compile(
        rf"(?P<break>\n?)^# BEGIN ganeti-vcluster {name}(?P<added>{re.escape(_NO_NEWLINE)})?\n"
        rf"(?P<body>(?:[0-9a-f.:]+ [^\s#]+\n)*)# END ganeti-vcluster {name}(?:\n|\Z)",
        re.MULTILINE,
    )


def check(text: str, cluster: ClusterId) -> None:
    """Raise VclusterError when it cannot be told which lines are the cluster's: a marker is missing, or foreign lines stand
    between the markers.
    """
    marker = rf"^# (?:BEGIN|END) ganeti-vcluster {re.escape(cluster.name)}(?:\s|\Z)"
    if re.search(marker, _pattern(cluster).sub(r"\g<break>", text, count=1), re.MULTILINE):
        raise VclusterError(
            f"{names.HOSTS_FILE}: the block of the cluster {cluster.name} has lost a marker, or has foreign lines in it",
            f"remove its lines by hand, with '# BEGIN ganeti-vcluster {cluster.name}' and '# END ganeti-vcluster "
            f"{cluster.name}', then repeat the command",
        )


def without_block(text: str, cluster: ClusterId) -> str:
    """Return the file's text without the block of one cluster. Raises VclusterError when that is damaged."""
    check(text, cluster)
    return _without_block(text, cluster)


def _without_block(text: str, cluster: ClusterId) -> str:
    match = _pattern(cluster).search(text)
    if not match:
        return text
    head, tail = text[: match.start()], text[match.end() :]
    if not match["added"]:
        return head + match["break"] + tail
    if not tail:
        return head
    # Another block follows, and stands behind the added line break from now on.
    return head + "\n" + re.sub(r"\A(# BEGIN ganeti-vcluster \S+)\n", rf"\1{_NO_NEWLINE}\n", tail)


def with_block(text: str, cluster: ClusterId, lines: Iterable[tuple[Address, str]]) -> str:
    """Return the file's text with these (address, name) pairs, and no others, in the block of one cluster.

    Raises VclusterError when the present block is damaged.
    """
    check(text, cluster)
    body = "".join(f"{address} {name}\n" for address, name in lines)
    present = _pattern(cluster).search(text)
    if present:
        return text[: present.start("body")] + body + text[present.end("body") :]
    added = _NO_NEWLINE if text and not text.endswith("\n") else ""
    return (
        f"{text}{chr(10) if added else ''}# BEGIN ganeti-vcluster {cluster.name}{added}\n"
        f"{body}# END ganeti-vcluster {cluster.name}\n"
    )


def clusters_in(text: str) -> tuple[ClusterId, ...]:
    """Return the clusters that have a block."""
    return tuple(ClusterId(name) for name in re.findall(r"^# BEGIN ganeti-vcluster (\S+)", text, re.MULTILINE))


@dataclass(frozen=True)
class Entry:
    """A name in the file, as the resolver compares it: in small letters, without a final dot."""

    name: str
    address: str
    line: int  #: counted from 1


def foreign_names(text: str) -> Iterator[Entry]:
    """Yield the names that stand outside of our blocks. A damaged block is none."""
    ours = {number for cluster in clusters_in(text) for number in _block_lines(text, cluster)}
    for number, line in enumerate(text.split("\n"), 1):
        address, *words = line.split("#")[0].split() or [""]
        if number not in ours:
            yield from (Entry(word.lower().removesuffix("."), address, number) for word in words)


def _block_lines(text: str, cluster: ClusterId) -> range:
    match = _pattern(cluster).search(text)
    if not match:
        return range(0)
    first = text.count("\n", 0, match.start("body")) + 1
    return range(first, first + match["body"].count("\n"))
