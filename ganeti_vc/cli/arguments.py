# SPDX-License-Identifier: BSD-2-Clause
"""Arguments that several commands share, and the types of arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ganeti_vc.model import options
from ganeti_vc.operations.bench.figures import SMALLEST_SIZE


class Parser(argparse.ArgumentParser):
    """Errors of usage are one line and exit status 2, like all errors."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """End the program."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows the usage)\n")


@dataclass(frozen=True)
class Split:
    """A command line, cut at its `--`."""

    words: tuple[str, ...]  #: before the `--`, without the options that choose a sandbox
    behind: tuple[str, ...]  #: from the `--` on, with it


# -- types --


def count(text: str) -> int:
    """Return a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def count_or_zero(text: str) -> int:
    """Return a number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    """Return numbers of nodes, the smallest first."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) >= SMALLEST_SIZE for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers of at least {SMALLEST_SIZE}")
    return tuple(sorted(set(map(int, words))))


def words(text: str) -> tuple[str, ...]:
    """Return what stands between commas."""
    return tuple(text.split(","))


# -- groups --


def cluster(parser: argparse.ArgumentParser) -> None:
    """Add CLUSTER."""
    parser.add_argument("cluster", nargs="?", metavar="CLUSTER", help="name of the cluster (default: default)")


def json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def dry_run(parser: argparse.ArgumentParser) -> None:
    """Add --dry-run."""
    parser.add_argument("--dry-run", action="store_true", help="show what would be done and change nothing")


def yes(parser: argparse.ArgumentParser) -> None:
    """Add --yes."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def joining(parser: argparse.ArgumentParser) -> None:
    """Add how nodes and instances get into the Ganeti cluster."""
    parser.add_argument(
        "--join",
        choices=("auto", "ganeti", "seeding"),
        default="auto",
        metavar="HOW",
        help="how nodes and instances get into the cluster: ganeti (gnt-node add, gnt-instance add), seeding "
        "(written into the stopped master's configuration) or auto (seeding from "
        f"{options.SEED_NODES_FROM} nodes or {options.SEED_INSTANCES_FROM} instances on)",
    )
    parser.add_argument(
        "--shared-key",
        action="store_true",
        default=True,
        help="with seeding (the default): one private key for all new nodes, each with a certificate of its own",
    )
    parser.add_argument(
        "--no-shared-key",
        action="store_false",
        dest="shared_key",
        help="with seeding: a private key for each new node, as gnt-node add makes it, at 0.15 CPU seconds each",
    )


def new_cluster(parser: argparse.ArgumentParser) -> None:
    """Add what a new cluster looks like."""
    parser.add_argument("--nodes", type=count, metavar="N", help="number of nodes of a new cluster (default: 3)")
    parser.add_argument(
        "--instances",
        type=count_or_zero,
        metavar="M",
        help="number of diskless instances to create (default: none; 10 names for instances are set up)",
    )
    parser.add_argument(
        "--domain",
        metavar="DOMAIN",
        help="domain of all names of a new cluster (default: none for the cluster default, "
        "else the name of the cluster)",
    )
    parser.add_argument(
        "--network",
        metavar="CIDR",
        help="IPv4 or IPv6 network of a new cluster (default: the first of 192.0.2.0/24, "
        "198.51.100.0/24, 203.0.113.0/24 and 198.18.0.0/15 that is free and large enough)",
    )


def listing(parser: argparse.ArgumentParser, fields: str) -> None:
    """Add the options of a table, as gnt-* has them."""
    parser.add_argument("-o", "--output", metavar="FIELDS", default="", help=f"fields to show: {fields}")
    parser.add_argument("--no-headers", action="store_true", help="leave out the headings")
    parser.add_argument("--separator", metavar="SEP", default="", help="put this between the fields")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, with all fields")
