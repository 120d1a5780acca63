# SPDX-License-Identifier: BSD-2-Clause
"""Blocks in /etc/hosts: what is not ours stays, to the byte."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import hosts
from ganeti_vc.model.names import ClusterId

A, B = ClusterId("a"), ClusterId("b")
LINES = [(ip_address("192.0.2.1"), "cluster"), (ip_address("192.0.2.10"), "node1")]
FOREIGN = ["", "127.0.0.1 localhost\n", "127.0.0.1 localhost", "\n\n# x\n::1 a b\n\n", "1.2.3.4 \udcff caf\u00e9\n"]


@pytest.mark.parametrize("text", FOREIGN)
def test_removing_a_block_gives_the_same_bytes_back(text: str) -> None:
    with_a = hosts.with_block(text, A, LINES)
    both = hosts.with_block(with_a, B, LINES)
    assert hosts.without_block(both, B) == with_a
    assert hosts.without_block(with_a, A) == text
    assert hosts.without_block(hosts.without_block(both, A), B) == text


@pytest.mark.parametrize("text", FOREIGN)
def test_a_block_is_replaced_where_it_stands(text: str) -> None:
    once = hosts.with_block(text, A, LINES)
    assert hosts.with_block(once, A, LINES) == once
    assert hosts.with_block(hosts.with_block(once, A, LINES[:1]), A, LINES) == once


def test_lines_added_behind_a_block_stay() -> None:
    text = hosts.with_block("127.0.0.1 localhost\n", A, LINES) + "10.0.0.1 later\n"
    assert hosts.without_block(text, A) == "127.0.0.1 localhost\n10.0.0.1 later\n"


def test_names_in_use_are_those_outside_of_our_blocks() -> None:
    text = hosts.with_block("# x\n10.0.0.1 node1 n1 # comment\n", A, [(ip_address("192.0.2.9"), "mine")])
    assert list(hosts.foreign_names(f"{text}10.0.0.2 NODE1 node2.\n")) == [
        hosts.Entry("node1", "10.0.0.1", 2),
        hosts.Entry("n1", "10.0.0.1", 2),
        hosts.Entry("node1", "10.0.0.2", 6),
        hosts.Entry("node2", "10.0.0.2", 6),
    ]


BLOCK = hosts.with_block("127.0.0.1 localhost\n", A, LINES)
DAMAGED = {
    "no end, a foreign line below": BLOCK.replace("# END ganeti-vcluster a\n", "10.7.7.7 important\n"),
    "no begin": BLOCK.replace("# BEGIN ganeti-vcluster a\n", ""),
    "no end, another block below": hosts.with_block(BLOCK.replace("# END ganeti-vcluster a\n", ""), B, LINES),
    "twice": f"{BLOCK}{BLOCK}",
    "a foreign line within": BLOCK.replace("# END ganeti-vcluster a", "10.7.7.7 important names\n# END ganeti-vcluster a"),
    "a comment within": BLOCK.replace("# END ganeti-vcluster a", "# important\n# END ganeti-vcluster a"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_of_a_damaged_block_nothing_is_guessed(case: str) -> None:
    text = DAMAGED[case]
    damaged = "/etc/hosts.*cluster a .*# BEGIN ganeti-vcluster a"
    with pytest.raises(VclusterError, match=damaged):
        hosts.with_block(text, A, LINES[:1])
    with pytest.raises(VclusterError, match=damaged):
        hosts.without_block(text, A)
    # The other cluster goes on.
    assert hosts.without_block(hosts.with_block(text, B, LINES), B) == hosts.without_block(text, B)
    if "10.7.7.7" in text:
        assert "10.7.7.7 important" in hosts.with_block(text, B, LINES)
    list(hosts.foreign_names(text))


def test_a_cluster_whose_name_begins_like_another_is_not_damaged() -> None:
    text = hosts.with_block(BLOCK, ClusterId("a-b"), LINES)
    assert hosts.without_block(text, A) == hosts.with_block("127.0.0.1 localhost\n", ClusterId("a-b"), LINES)
