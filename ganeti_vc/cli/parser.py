# SPDX-License-Identifier: BSD-2-Clause
"""The command line as data: what `--help`, the manual page and the completion are made from."""

from __future__ import annotations

import argparse

from ganeti_vc import VERSION
from ganeti_vc.model import options
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.operations.bench.figures import OPERATIONS as BENCH_OPERATIONS
from ganeti_vc.operations.bench.figures import SMALLEST_SIZE as SMALLEST_BENCH
from ganeti_vc.sandbox.debian_trees import SUITES

EPILOG = "Documentation: gnt-vcluster(8), ganeti-vcluster.conf(5), ganeti-vcluster(7)."


class Parser(argparse.ArgumentParser):
    """Errors of usage are one line and exit status 2, like all errors."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows the usage)\n")


def _cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", nargs="?", metavar="CLUSTER", help="name of the cluster (default: default)")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _joining(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join", choices=("auto", "ganeti", "seeding"), default="auto", metavar="HOW",
        help="how nodes and instances get into the cluster: ganeti (gnt-node add, gnt-instance add), seeding "
             f"(written into the stopped master's configuration) or auto (seeding from {options.SEED_NODES_FROM} nodes or "
             f"{options.SEED_INSTANCES_FROM} instances on)",
    )  # fmt: skip
    parser.add_argument("--shared-key", action="store_true", default=True,
                        help="with seeding (the default): one private key for all new nodes, each with a certificate of its own")  # fmt: skip
    parser.add_argument("--no-shared-key", action="store_false", dest="shared_key",
                        help="with seeding: a private key for each new node, as gnt-node add makes it, at 0.15 CPU seconds each")  # fmt: skip


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be done and change nothing")


def _wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=_count, metavar="N", help="number of nodes of a new cluster (default: 3)")
    parser.add_argument(
        "--instances",
        type=_count_or_zero,
        metavar="M",
        help="number of diskless instances to create (default: none; 10 names for instances are set up)",
    )
    parser.add_argument(
        "--domain",
        metavar="DOMAIN",
        help="domain of all names of a new cluster (default: none for the cluster default, "
        "else the name of the cluster)",
    )
    parser.add_argument("--network", metavar="CIDR",
                        help="IPv4 or IPv6 network of a new cluster (default: the first of 192.0.2.0/24, "
                        "198.51.100.0/24, 203.0.113.0/24 and 198.18.0.0/15 that is free and large enough)")  # fmt: skip


def _listing(parser: argparse.ArgumentParser, fields: str) -> None:
    parser.add_argument("-o", "--output", metavar="FIELDS", default="", help=f"fields to show: {fields}")
    parser.add_argument("--no-headers", action="store_true", help="leave out the headings")
    parser.add_argument("--separator", metavar="SEP", default="", help="put this between the fields")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, with all fields")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _count_or_zero(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) >= SMALLEST_BENCH for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers of at least {SMALLEST_BENCH}")
    return tuple(sorted(set(map(int, words))))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _snapshot(parser: argparse.ArgumentParser) -> None:
    _cluster(parser)
    parser.add_argument("name", metavar="NAME", help="name of the snapshot")


def _snapshot_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG)

    save = add(
        "save", "keep the present state of a cluster, which may run on: its configuration file and all its nodes"
    )
    _snapshot(save)
    save.add_argument(
        "--live", action="store_true", help="even while jobs run; the snapshot has them as after a power cut"
    )
    _dry_run(save)
    _json(save)

    restore = add("restore", "make a cluster what it was, and start it; its present state is lost")
    _snapshot(restore)
    restore.add_argument(
        "--keep", metavar="OTHER", default="", help="keep the present state as a snapshot of this name"
    )
    restore.add_argument("--no-start", action="store_true", help="leave the cluster stopped")
    _dry_run(restore)
    _json(restore)

    listing = add("list", "list the snapshots of a cluster, or of all clusters")
    listing.add_argument("cluster", nargs="?", metavar="CLUSTER", help="name of the cluster (default: all)")
    _listing(listing, "snapshot, cluster, nodes, created, state, ganeti, size")

    delete = add("delete", "delete a snapshot")
    _snapshot(delete)
    _dry_run(delete)
    _json(delete)


def _sandbox_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG)
        added.add_argument("box", nargs="?", metavar="NAME", help="name of the sandbox (default: default)")
        return added

    start = add("start", "boot a sandbox, made if it does not exist, with the clusters it has")
    start.add_argument(
        "--suite", metavar="SUITE", choices=SUITES,
        help="for a new one: a Debian of its own, bookworm or trixie, made by mmdebstrap (default: the machine's own /usr)",
    )  # fmt: skip
    start.add_argument("--deb", metavar="FILE", help="with --suite: the package ganeti-vcluster to install in it")
    _json(start)
    add("enter", "open a shell of root in a sandbox")
    execute = add("exec", "run a command as root in a sandbox, with its exit status kept")
    execute.usage = "gnt-vcluster sandbox exec [NAME] -- COMMAND [ARGUMENT...]"
    _listing(
        add("status", "list the sandboxes of this user; of one, exit status 1 if it does not run"),
        "sandbox, state, system, pid, owner, memory, disk",
    )
    _json(add("stop", "power a sandbox off; its clusters are there again when it is started"))
    remove = add("remove", "stop a sandbox and remove all its files")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.add_argument(
        "--base", action="store_true", help="also its Debian in the cache directory, if no other sandbox has it"
    )
    _json(remove)
    forward = add("forward", "until Ctrl-C, hand connections from outside on to a daemon of a cluster in a sandbox")
    forward.usage = "gnt-vcluster sandbox forward [NAME] --listen PORT|PATH --to HOST:PORT"
    forward.add_argument("--listen", metavar="PORT|PATH", required=True,
                         help="a TCP port of 127.0.0.1, which all users of the machine reach; or a path (with a /) for a UNIX socket, which only you do")  # fmt: skip
    forward.add_argument("--to", dest="target", metavar="HOST:PORT", required=True,
                         help="a name or an address inside: the cluster's and 5080 for RAPI, a node's and the cluster's ssh_port for ssh")  # fmt: skip


def build() -> Parser:
    parser = Parser(
        prog="gnt-vcluster",
        description="Run real Ganeti clusters of virtual nodes on this machine, under systemd.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gnt-vcluster {VERSION}")
    parser.add_argument("--debug", action="store_true", help="log what is run, and show tracebacks")
    parser.add_argument("--sandbox", nargs="?", metavar="NAME",
                        help="work in this sandbox (--sandbox=NAME; --sandbox alone is the one named default)")  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG)

    up = add("up", "bring a cluster up: from nothing, or from whatever is there, to a running and verified one")
    _cluster(up)
    _wishes(up)
    _joining(up)
    up.add_argument("--no-verify", action="store_true", help="leave out gnt-cluster verify at the end")
    _dry_run(up)
    _json(up)

    create = add("create", "write the configuration file of a new cluster, and nothing else")
    _cluster(create)
    _wishes(create)
    _dry_run(create)
    _json(create)

    status = add("status", "show the nodes of a cluster: roles, daemons, memory; exit status 1 if something is missing")
    _cluster(status)
    _listing(status, "node, address, role, state, daemons, missing, memory")
    status.add_argument("--watch", action="store_true", help="show it again whenever something changes, until Ctrl-C")

    listing = add("list", "list the clusters of this machine")
    _listing(listing, "cluster, name, nodes, network, master, state")

    execute = add("exec", "run a command on nodes, with its arguments untouched and its exit status kept")
    execute.usage = "gnt-vcluster exec [-c CLUSTER] [--json] NODE... -- COMMAND [ARGUMENT...]"
    execute.add_argument(
        "-c", "--cluster", metavar="CLUSTER", help="whose nodes `all` and `master` are (default: default)"
    )
    _json(execute)
    execute.add_argument("nodes", nargs="+", metavar="NODE", help="node1, node[1-5], all or master")

    shell = add("shell", "open a shell on a node")
    shell.add_argument("node", metavar="NODE", help="name of the node")

    logs = add("logs", "show the journal of a node")
    logs.add_argument("node", metavar="NODE", help="name of the node")
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing new lines")
    logs.add_argument(
        "-d",
        "--daemon",
        metavar="DAEMON",
        choices=[*(d.name for d in DAEMONS), "watcher", "cleaner"],
        help="only this daemon: " + ", ".join([*(d.name for d in DAEMONS), "watcher", "cleaner"]),
    )
    logs.add_argument("-n", "--lines", metavar="N", type=_count, help="only the last N lines")
    logs.add_argument("--json", action="store_true", help="print journal entries as JSON, one a line")  # fmt: skip

    for verb, text in (
        ("start", "start a cluster or a node (power it on)"),
        ("stop", "stop a cluster or a node (power it off)"),
        ("restart", "restart a cluster or a node"),
    ):
        power = add(verb, text)
        power.add_argument(
            "what", nargs="?", metavar="CLUSTER|NODE", help="name of a cluster or a node (default: default)"
        )
        _dry_run(power)
        _json(power)

    scale = add("scale", "change the number of nodes of a running cluster")
    _cluster(scale)
    scale.add_argument("--nodes", type=_count, metavar="N", required=True, help="number of nodes to have")
    _joining(scale)
    _dry_run(scale)
    _json(scale)

    doctor = add(
        "doctor", "say what this machine can hold and which limit ends it first; exit status 1 if something is too low"
    )
    doctor.add_argument("--nodes", type=_count, metavar="N",
                        help="would a cluster of N nodes fit? (default: the clusters there are, or else as many nodes as fit)")  # fmt: skip
    doctor.add_argument("--instances", type=_count_or_zero, metavar="M",
                        help="and M diskless instances? (default: those there are, or none)")  # fmt: skip
    doctor.add_argument("--fix", action="store_true",
                        help="raise the kernel's parameters that are too low, now and in a file of /etc/sysctl.d; none is lowered")  # fmt: skip
    doctor.add_argument("--dry-run", action="store_true", help="show what --fix would do and change nothing")
    _listing(doctor, "what, needed, present, nodes, state, remedy")

    _snapshot_commands(add("snapshot", "save, restore, list and delete snapshots of clusters"))

    run = add(
        "run", "run a command on the master of a new cluster, with its exit status kept, and remove the cluster again"
    )
    run.usage = "gnt-vcluster run [--nodes N] [--instances M] [--from SNAPSHOT] [--] COMMAND [ARGUMENT...]"
    run.add_argument("--nodes", type=_count, metavar="N", help="number of nodes (default: 3)")
    run.add_argument(
        "--instances", type=_count_or_zero, metavar="M", help="number of diskless instances (default: none)"
    )
    run.add_argument("--from", dest="snapshot", metavar="SNAPSHOT",
                     help="restore this snapshot, NAME or CLUSTER/NAME, instead of making a new cluster; its own must not exist now")  # fmt: skip
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments")

    qa = add(
        "qa",
        "run Ganeti's own QA suite (package ganeti-testsuite) on new clusters, and remove those on which nothing failed",
    )
    qa.usage = "gnt-vcluster qa [CLUSTER] [OPTION...] [-- OPTION-OF-GANETI-QA...]"
    qa.add_argument(
        "cluster",
        nargs="?",
        default="qa",
        metavar="CLUSTER",
        help="name of the new cluster (default: qa); the whole suite makes a second one, CLUSTER2",
    )
    qa.add_argument("--quick", action="store_true", help="leave out what takes long: two minutes instead of fifteen")
    qa.add_argument("--only", metavar="TEST,...", help="only these switches of the suite, for example os,rapi,tags")
    qa.add_argument(
        "--keep", action="store_true", help="do not remove the clusters; one on which a test fails is kept anyway"
    )
    qa.add_argument("--junit", metavar="FILE", help="write the results as JUnit's XML")
    qa.add_argument("--log", metavar="FILE", help="write all that the suite prints")
    _json(qa)

    bench = add("bench", "measure what clusters of growing size cost, each made for it and removed again")
    bench.usage = "gnt-vcluster bench [CLUSTER] [OPTION...]"
    bench.add_argument("cluster", nargs="?", default="bench", metavar="CLUSTER", help="name of the new clusters (default: bench)")  # fmt: skip
    bench.add_argument("--sizes", type=_sizes, default=(3, 10, 30), metavar="N,...", help="numbers of nodes (default: 3,10,30)")  # fmt: skip
    bench.add_argument("--instances-per-node", type=_count_or_zero, default=1, metavar="K",
                       help="diskless instances for each node (default: 1)")  # fmt: skip
    bench.add_argument("--runs", type=_count, default=1, metavar="R",
                       help="clusters of each size; the medians are shown (default: 1)")  # fmt: skip
    bench.add_argument("--only", type=_words, default=(), metavar="OPERATION,...",
                       help="only these, besides create: " + ", ".join(name for name in BENCH_OPERATIONS if name != "create"))  # fmt: skip
    bench.add_argument("--idle", type=_count, default=60, metavar="SECONDS",
                       help="how long idle clusters are watched (default: 60; 360 has a run of ganeti-watcher on each node)")  # fmt: skip
    bench.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE",
                       help="a key of ganeti-vcluster.conf(5), for example fork_server=no; may be repeated")  # fmt: skip
    bench.add_argument("--html", metavar="FILE", help="write a page with plots, which needs no network (package python3-matplotlib)")  # fmt: skip
    bench.add_argument("--save", metavar="FILE", help="write all measurements as JSON; it grows with each cluster")
    bench.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="measure nothing: show two saved files side by side"
    )
    _json(bench)

    destroy = add("destroy", "stop a cluster and remove it with all its data")
    _cluster(destroy)
    destroy.add_argument("--yes", action="store_true", help="do not ask")
    destroy.add_argument("--snapshots", action="store_true", help="delete its snapshots, too, which otherwise stay")
    _dry_run(destroy)
    _json(destroy)

    _sandbox_commands(add("sandbox", "private systems for clusters, which need neither root nor a systemd as PID 1"))
    return parser
