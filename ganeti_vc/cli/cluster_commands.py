# SPDX-License-Identifier: BSD-2-Clause
"""up, create, status, list, start, stop, restart, scale, destroy: the commands for whole clusters."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ganeti_vc.base.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.base.progress import counted, program
from ganeti_vc.cli import output
from ganeti_vc.machine import config_files, snapshots
from ganeti_vc.machine.systemd import connect
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.options import UpOptions
from ganeti_vc.operations import bring_up, declare, destroy, lookup, scale, status


def _options(args: argparse.Namespace) -> UpOptions:
    """Return the options of `up`; `create` has only the first of them."""
    return UpOptions(
        args.nodes,
        args.instances,
        args.domain,
        args.network,
        getattr(args, "join", "auto"),
        getattr(args, "shared_key", True),
        not getattr(args, "no_verify", False),
    )


def _report(outcome: bring_up.Outcome, seconds: float, args: argparse.Namespace) -> int:
    errors = outcome.verify_errors
    if args.json:
        output.print_json({**outcome.document(), "seconds": round(seconds, 1)})
    elif not errors:
        cluster = outcome.config.id.name
        master = outcome.master.name if outcome.master else "none"
        nodes = counted(len(outcome.config.nodes), "node")
        what = "is up" if outcome.changes else "is up already, nothing was changed"
        print(f"Cluster {cluster} {what}: {nodes}, master {master} ({seconds:.0f} s).")
        if args.command == "up" and outcome.changes:
            print(f"""
Try:
  {program()} exec {_master_option(outcome)}master -- gnt-node list
  {program()} shell {outcome.config.nodes[0].id.name}
  {program()} status {cluster}
  {program()} logs {outcome.config.nodes[0].id.name} -f""")
    if errors:
        raise StepFailed(
            f"gnt-cluster verify finds: {errors[0]}" + (f" and {len(errors) - 1} more" if errors[1:] else ""),
            f"look at: gnt-vcluster exec {_master_option(outcome)}master -- gnt-cluster verify",
        )
    return 0


def _master_option(outcome: bring_up.Outcome) -> str:
    name = outcome.config.id.name
    return "" if name == "default" else f"-c {name} "


def do_up(args: argparse.Namespace) -> int:
    """Bring a cluster up."""
    cluster = lookup.default_cluster(args.cluster)
    if args.dry_run:
        return output.print_dry_run(bring_up.dry_run(cluster, _options(args)), args)
    begin = time.monotonic()
    outcome = bring_up.up(cluster, _options(args), output.progress(args))
    return _report(outcome, time.monotonic() - begin, args)


def do_create(args: argparse.Namespace) -> int:
    """Write a configuration file."""
    cluster = lookup.default_cluster(args.cluster)
    config = declare.create(cluster, _options(args), args.dry_run)
    if args.dry_run:
        return output.print_dry_run([f"write {cluster.config_file}"], args)
    if args.json:
        output.print_json({"cluster": cluster.name, "file": str(cluster.config_file), "nodes": len(config.nodes)})
    else:
        print(f"{cluster.config_file} is written. Next: gnt-vcluster up {cluster.name}")
    return 0


def do_status(args: argparse.Namespace) -> int:
    """Show the nodes of a cluster. Exit status 1 if something is missing."""
    cluster = lookup.default_cluster(args.cluster)
    live = not args.json and sys.stdout.isatty()
    shown: tuple[list[status.NodeStatus], list[str]] | None = None
    with connect() as systemd:
        while True:
            config = config_files.load_present(cluster)
            nodes = status.node_statuses(config, systemd)
            steps = status.repairs(config, nodes)
            # Memory changes all the time. Only a screen, which is drawn again, follows it.
            seen = ([replace(node, memory=0) for node in nodes], steps)
            if live or seen != shown:
                shown = seen
                _show_status(config, nodes, steps, args, clear=args.watch and live)
            if not args.watch:
                return 0 if status.cluster_state(nodes, steps) == "running" else 1
            systemd.wait_for_change()


def _show_status(
    config: ClusterConfig,
    nodes: Sequence[status.NodeStatus],
    steps: Sequence[str],
    args: argparse.Namespace,
    clear: bool,
) -> None:
    if clear:
        print("\033[H\033[J", end="")
    if args.json:
        master = next((node.node for node in nodes if node.role == "master"), None)
        output.print_json(
            {
                "cluster": config.id.name,
                "name": config.name,
                "master": master,
                "state": status.cluster_state(nodes, steps),
                "up_would": steps,
                "nodes": [asdict(node) for node in nodes],
            }
        )
    else:
        output.print_listing(status.NODE_FIELDS, [node.row() for node in nodes], args)
    sys.stdout.flush()
    if steps and not args.json:
        print(status.damage(config.id, steps), file=sys.stderr)


def do_list(args: argparse.Namespace) -> int:
    """List the clusters."""
    with connect() as systemd:
        rows = status.cluster_rows(systemd)
    if args.json:
        output.print_json({"clusters": rows})
        return 0
    output.print_listing(status.CLUSTER_FIELDS, rows, args)
    for row in rows:
        if "error" in row:
            print(row["error"], file=sys.stderr)
    return 0


@dataclass(frozen=True)
class _Switch:
    """A cluster or a node as `start`, `stop` and `restart` have it."""

    name: str
    unit: str  #: the target to start or stop
    off_service: str  #: waits at a stop until all processes are gone


def _switch(args: argparse.Namespace) -> _Switch:
    """Return what the command is about: a cluster if there is one of that name, else a node. Raises VclusterError."""
    word: str | None = args.what
    # Only names of nodes may hold a dot.
    cluster = lookup.default_cluster(word if word is None or "." not in word else None)
    if word is None or (cluster.name == word and config_files.exists(cluster)):
        if args.command != "stop" or not config_files.exists(cluster):
            config_files.load(cluster)  # a file that is wrong must not keep a cluster from being stopped
        if word is not None and cluster.node(word).registry_link.is_symlink():
            units = f"{cluster.target}, or {cluster.node(word).target}"
            raise UsageError(f"{word} is a cluster and a node", f"systemctl {args.command} {units}")
        return _Switch(cluster.name, cluster.target, cluster.off_service)
    try:
        node = lookup.find_node(word)
    except VclusterError:
        raise VclusterError(
            f"there is no cluster and no node {word}", "gnt-vcluster list shows the clusters, status the nodes"
        ) from None
    return _Switch(node.name, node.target, node.off_service)


def do_power(args: argparse.Namespace) -> int:
    """start, stop and restart: by systemd."""
    switch = _switch(args)
    if args.dry_run:
        return output.print_dry_run([f"systemctl {args.command} {switch.unit}"], args)
    method = {"start": "StartUnit", "stop": "StopUnit", "restart": "RestartUnit"}[args.command]
    with connect() as systemd, output.progress(args).step(f"{args.command} {switch.name}"):
        if args.command != "start":
            systemd.mark_started(switch.off_service)  # a start that was interrupted may not have come that far
        for job in systemd.jobs(method, [switch.unit]):
            if job.result != "done" and not (args.command == "stop" and job.no_such_unit):
                raise StepFailed(
                    f"{switch.unit}: {args.command} ended with: {job.result}",
                    f"look at: systemctl status '{switch.unit}'",
                )
    if args.json:
        output.print_json({"unit": switch.unit, "action": args.command})
    return 0


def do_scale(args: argparse.Namespace) -> int:
    """Change the number of nodes."""
    cluster = lookup.default_cluster(args.cluster)
    if args.dry_run:
        return output.print_dry_run(scale.dry_run(cluster, args.nodes, UpOptions(join=args.join)), args)
    begin = time.monotonic()
    outcome = scale.scale(
        cluster, args.nodes, UpOptions(join=args.join, shared_key=args.shared_key), output.progress(args)
    )
    return _report(outcome, time.monotonic() - begin, args)


def do_destroy(args: argparse.Namespace) -> int:
    """Remove a cluster, after a question."""
    cluster = lookup.default_cluster(args.cluster)
    destroy.check_exists(cluster, args.snapshots)
    if args.dry_run:
        doomed = snapshots.ids(cluster) if args.snapshots else []
        return output.print_dry_run(
            [*map(str, destroy.steps(cluster)), *(f"delete {one.directory}" for one in doomed)], args
        )
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"destroying {cluster.name} removes its data", "add --yes")
        if input(f"Destroy the cluster {cluster.name} with all its data ({cluster.directory})? [y/N] ").lower() != "y":
            raise VclusterError("nothing was changed")
    destroy.destroy(cluster, output.progress(args), args.snapshots)
    if left := snapshots.ids(cluster):
        output.progress(args).say(
            f"{counted(len(left), 'snapshot')} of {cluster.name} kept: gnt-vcluster snapshot list"
        )
    if args.json:
        output.print_json({"cluster": cluster.name, "destroyed": True})
    return 0
