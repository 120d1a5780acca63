# SPDX-License-Identifier: BSD-2-Clause
"""The command line as data: what runs, `--help`, the manual page and the completion are made from it.

`COMMANDS` is the one place that names a command. Man pages are made where only Python and configobj are installed, so
what a command runs is named by its module, which is imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from ganeti_vc import VERSION
from ganeti_vc.cli import arguments
from ganeti_vc.cli.arguments import Parser, count, count_or_zero, sizes, words
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.operations.bench.figures import OPERATIONS as BENCH_OPERATIONS
from ganeti_vc.sandbox.debian_trees import SUITES

EPILOG = "Documentation: gnt-vcluster(8), ganeti-vcluster.conf(5), ganeti-vcluster(7)."


def _add(commands: argparse._SubParsersAction[Parser], name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG)


def _up(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    arguments.new_cluster(parser)
    arguments.joining(parser)
    parser.add_argument("--no-verify", action="store_true", help="leave out gnt-cluster verify at the end")
    arguments.dry_run(parser)
    arguments.json(parser)


def _create(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    arguments.new_cluster(parser)
    arguments.dry_run(parser)
    arguments.json(parser)


def _status(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    arguments.listing(parser, "node, address, role, state, daemons, missing, memory")
    parser.add_argument("--watch", action="store_true", help="show it again whenever something changes, until Ctrl-C")


def _list(parser: argparse.ArgumentParser) -> None:
    arguments.listing(parser, "cluster, name, nodes, network, master, state")


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.usage = "gnt-vcluster exec [-c CLUSTER] [--json] NODE... -- COMMAND [ARGUMENT...]"
    parser.add_argument(
        "-c", "--cluster", metavar="CLUSTER", help="whose nodes `all` and `master` are (default: default)"
    )
    arguments.json(parser)
    parser.add_argument("nodes", nargs="+", metavar="NODE", help="node1, node[1-5], all or master")


def _shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="name of the node")


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="name of the node")
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing new lines")
    parser.add_argument(
        "-d",
        "--daemon",
        metavar="DAEMON",
        choices=[*(d.name for d in DAEMONS), "watcher", "cleaner"],
        help="only this daemon: " + ", ".join([*(d.name for d in DAEMONS), "watcher", "cleaner"]),
    )
    parser.add_argument("-n", "--lines", metavar="N", type=count, help="only the last N lines")
    parser.add_argument("--json", action="store_true", help="print journal entries as JSON, one a line")


def _power(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="CLUSTER|NODE", help="name of a cluster or a node (default: default)"
    )
    arguments.dry_run(parser)
    arguments.json(parser)


def _scale(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    parser.add_argument("--nodes", type=count, metavar="N", required=True, help="number of nodes to have")
    arguments.joining(parser)
    arguments.dry_run(parser)
    arguments.json(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes",
        type=count,
        metavar="N",
        help="would a cluster of N nodes fit? (default: the clusters there are, or else as many nodes as fit)",
    )
    parser.add_argument(
        "--instances",
        type=count_or_zero,
        metavar="M",
        help="and M diskless instances? (default: the existing ones, or none)",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="raise the kernel's parameters that are too low, now and in a file of /etc/sysctl.d; none is lowered",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what --fix would do and change nothing")
    arguments.listing(parser, "what, needed, present, nodes, state, remedy")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.usage = "gnt-vcluster run [--nodes N] [--instances M] [--from SNAPSHOT] [--] COMMAND [ARGUMENT...]"
    parser.add_argument("--nodes", type=count, metavar="N", help="number of nodes (default: 3)")
    parser.add_argument(
        "--instances", type=count_or_zero, metavar="M", help="number of diskless instances (default: none)"
    )
    parser.add_argument(
        "--from",
        dest="snapshot",
        metavar="SNAPSHOT",
        help="restore this snapshot, NAME or CLUSTER/NAME, instead of making a new cluster; its own must not exist now",
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command and its arguments")


def _qa(parser: argparse.ArgumentParser) -> None:
    parser.usage = "gnt-vcluster qa [CLUSTER] [OPTION...] [-- OPTION-OF-GANETI-QA...]"
    parser.add_argument(
        "cluster",
        nargs="?",
        default="qa",
        metavar="CLUSTER",
        help="name of the new cluster (default: qa); the whole suite makes a second one, CLUSTER2",
    )
    parser.add_argument(
        "--quick", action="store_true", help="leave out what takes long: two minutes instead of fifteen"
    )
    parser.add_argument("--only", metavar="TEST,...", help="only these switches of the suite, for example os,rapi,tags")
    parser.add_argument(
        "--keep", action="store_true", help="do not remove the clusters; one on which a test fails is kept anyway"
    )
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit's XML")
    parser.add_argument("--log", metavar="FILE", help="write all that the suite prints")
    arguments.json(parser)


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.usage = "gnt-vcluster bench [CLUSTER] [OPTION...]"
    parser.add_argument(
        "cluster", nargs="?", default="bench", metavar="CLUSTER", help="name of the new clusters (default: bench)"
    )
    parser.add_argument(
        "--sizes", type=sizes, default=(3, 10, 30), metavar="N,...", help="numbers of nodes (default: 3,10,30)"
    )
    parser.add_argument(
        "--instances-per-node",
        type=count_or_zero,
        default=1,
        metavar="K",
        help="diskless instances for each node (default: 1)",
    )
    parser.add_argument(
        "--runs", type=count, default=1, metavar="R", help="clusters of each size; the medians are shown (default: 1)"
    )
    parser.add_argument(
        "--only",
        type=words,
        default=(),
        metavar="OPERATION,...",
        help="only these, besides create: " + ", ".join(name for name in BENCH_OPERATIONS if name != "create"),
    )
    parser.add_argument(
        "--idle",
        type=count,
        default=60,
        metavar="SECONDS",
        help="how long idle clusters are watched (default: 60; 360 has a run of ganeti-watcher on each node)",
    )
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of ganeti-vcluster.conf(5), for example fork_server=no; may be repeated",
    )
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with plots, which needs no network (package python3-matplotlib)"
    )
    parser.add_argument("--save", metavar="FILE", help="write all measurements as JSON; it grows with each cluster")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="measure nothing: show two saved files side by side"
    )
    arguments.json(parser)


def _destroy(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--snapshots", action="store_true", help="delete its snapshots, too, which otherwise stay")
    arguments.dry_run(parser)
    arguments.json(parser)


def _snapshot(parser: argparse.ArgumentParser) -> None:
    arguments.cluster(parser)
    parser.add_argument("name", metavar="NAME", help="name of the snapshot")


def _snapshot_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return _add(commands, name, text)

    save = add(
        "save", "keep the present state of a cluster, which may run on: its configuration file and all its nodes"
    )
    _snapshot(save)
    save.add_argument(
        "--live", action="store_true", help="even while jobs run; the snapshot has them as after a power cut"
    )
    arguments.dry_run(save)
    arguments.json(save)

    restore = add("restore", "make a cluster what it was, and start it; its present state is lost")
    _snapshot(restore)
    restore.add_argument(
        "--keep", metavar="OTHER", default="", help="keep the present state as a snapshot of this name"
    )
    restore.add_argument("--no-start", action="store_true", help="leave the cluster stopped")
    arguments.dry_run(restore)
    arguments.json(restore)

    listing = add("list", "list the snapshots of a cluster, or of all clusters")
    listing.add_argument("cluster", nargs="?", metavar="CLUSTER", help="name of the cluster (default: all)")
    arguments.listing(listing, "snapshot, cluster, nodes, created, state, ganeti, size")

    delete = add("delete", "delete a snapshot")
    _snapshot(delete)
    arguments.dry_run(delete)
    arguments.json(delete)


def _sandbox_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        added = _add(commands, name, text)
        added.add_argument("box", nargs="?", metavar="NAME", help="name of the sandbox (default: default)")
        return added

    start = add("start", "boot a sandbox, made if it does not exist, with the clusters it has")
    start.add_argument(
        "--suite",
        metavar="SUITE",
        choices=SUITES,
        help="for a new one: a Debian of its own, bookworm or trixie, made by mmdebstrap (default: the machine's own /usr)",
    )
    start.add_argument("--deb", metavar="FILE", help="with --suite: the package ganeti-vcluster to install in it")
    arguments.json(start)
    add("enter", "open a shell of root in a sandbox")
    execute = add("exec", "run a command as root in a sandbox, with its exit status kept")
    execute.usage = "gnt-vcluster sandbox exec [NAME] -- COMMAND [ARGUMENT...]"
    arguments.listing(
        add("status", "list the sandboxes of this user; of one, exit status 1 if it does not run"),
        "sandbox, state, system, pid, owner, memory, disk",
    )
    arguments.json(add("stop", "power a sandbox off; its clusters are there again when it is started"))
    remove = add("remove", "stop a sandbox and remove all its files")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.add_argument(
        "--base", action="store_true", help="also its Debian in the cache directory, if no other sandbox has it"
    )
    arguments.json(remove)
    forward = add("forward", "until Ctrl-C, hand connections from outside on to a daemon of a cluster in a sandbox")
    forward.usage = "gnt-vcluster sandbox forward [NAME] --listen PORT|PATH --to HOST:PORT"
    forward.add_argument(
        "--listen",
        metavar="PORT|PATH",
        required=True,
        help="a TCP port of 127.0.0.1, which all users of the machine reach; or a path (with a /) for a UNIX socket, which only you do",
    )
    forward.add_argument(
        "--to",
        dest="target",
        metavar="HOST:PORT",
        required=True,
        help="a name or an address inside: the cluster's and 5080 for RAPI, a node's and the cluster's ssh_port for ssh",
    )


@dataclass(frozen=True)
class Command:
    """One command."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    function: str  #: MODULE.FUNCTION in this package; it takes the arguments and returns an exit status
    starts_sandbox: bool = False  #: in a sandbox that does not run, there is something to do
    takes_remainder: bool = False  #: what stands behind `--` is for another program


COMMANDS = (
    Command("up", "bring a cluster up: make, start and verify whatever of it is missing", _up,
            "cluster_commands.do_up", starts_sandbox=True),
    Command("create", "write the configuration file of a new cluster; make and start nothing", _create,
            "cluster_commands.do_create", starts_sandbox=True),
    Command("status", "show the nodes of a cluster: roles, daemons, memory; exit status 1 if something is missing", _status,
            "cluster_commands.do_status"),
    Command("list", "list the clusters of this machine", _list, "cluster_commands.do_list"),
    Command("exec", "run a command on nodes, with its arguments untouched and its exit status kept", _exec,
            "node_commands.do_exec", takes_remainder=True),
    Command("shell", "open a shell on a node", _shell, "node_commands.do_shell"),
    Command("logs", "show the journal of a node", _logs, "node_commands.do_logs"),
    Command("start", "start a cluster or a node (power it on)", _power, "cluster_commands.do_power", starts_sandbox=True),
    Command("stop", "stop a cluster or a node (power it off)", _power, "cluster_commands.do_power"),
    Command("restart", "restart a cluster or a node", _power, "cluster_commands.do_power", starts_sandbox=True),
    Command("scale", "change the number of nodes of a running cluster", _scale, "cluster_commands.do_scale", starts_sandbox=True),
    Command("doctor", "say what this machine can hold and which limit ends it first; exit status 1 if something is too low",
            _doctor, "doctor_commands.do_doctor"),
    Command("snapshot", "save, restore, list and delete snapshots of clusters", _snapshot_commands,
            "snapshot_commands.do_snapshot"),
    Command("run", "run a command on the master of a new cluster, with its exit status kept, and remove the cluster again",
            _run, "run_commands.do_run", starts_sandbox=True, takes_remainder=True),
    Command("qa", "run Ganeti's own QA suite (package ganeti-testsuite) on new clusters, and remove those on which nothing "
            "failed", _qa, "qa_commands.do_qa", starts_sandbox=True, takes_remainder=True),
    Command("bench", "measure what clusters of growing size cost, each made for it and removed again", _bench,
            "bench_commands.do_bench", starts_sandbox=True),
    Command("destroy", "stop a cluster and remove it with all its data", _destroy, "cluster_commands.do_destroy"),
    Command("sandbox", "private systems for clusters, which need neither root nor a systemd as PID 1", _sandbox_commands,
            "sandbox_commands.do_sandbox", takes_remainder=True),
)  # fmt: skip


BY_NAME = {command.name: command for command in COMMANDS}


def build() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="gnt-vcluster",
        description="Run real Ganeti clusters of virtual nodes on this machine, under systemd.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gnt-vcluster {VERSION}")
    parser.add_argument("--debug", action="store_true", help="log what is run, and show tracebacks")
    parser.add_argument(
        "--sandbox",
        nargs="?",
        metavar="NAME",
        help="work in this sandbox (--sandbox=NAME; --sandbox alone is the one named default)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.arguments(_add(commands, command.name, command.help))
    return parser
