# SPDX-License-Identifier: BSD-2-Clause
"""What the options of `up` and `create` ask for, and the configuration that follows from them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from ipaddress import ip_address

from ganeti_vc.base import files
from ganeti_vc.base.errors import ConfigError, StepFailed, VclusterError
from ganeti_vc.machine import config_files, ganeti_files
from ganeti_vc.model import config, keys
from ganeti_vc.model.addresses import DEFAULT_NETWORKS, AddressPlan
from ganeti_vc.model.config import ClusterConfig, key_error
from ganeti_vc.model.names import ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.reconcile import observe, refusals

log = logging.getLogger(__name__)


def new_config(cluster: ClusterId, wishes: UpOptions) -> tuple[ClusterConfig, str]:
    """A configuration for a cluster that has none yet: checked against everything, not written.

    What is not said is chosen: the domain is the cluster's name unless it is `default`, the network
    the first usual one that is free and large enough.
    """
    others, unreadable = config_files.readable(other for other in config_files.declared() if other != cluster)
    for other, err in unreadable.items():
        log.warning("left out of the check for overlaps: the cluster %s: %s", other.name, err)
    nodes = 3 if wishes.nodes is None else wishes.nodes
    instances = max(10, wishes.instances or 0)
    domain = wishes.domain if wishes.domain is not None else ("" if cluster.name == "default" else cluster.name)
    values = {"nodes": str(nodes), "instances": str(instances), "domain": domain}
    if not domain:
        del values["domain"]
    own = [str(net) for net in wishes.networks if AddressPlan(net).fits(nodes, instances)]
    networks = [wishes.network] if wishes.network else own or [str(DEFAULT_NETWORKS[-1])]
    problem: ConfigError | None = None
    observed = observe.observe({})
    for candidate in networks:
        text = keys.render({**values, "network": candidate})
        try:
            made = config.parse(cluster, text, written=False)
            config.check_against(made, others)
            _check_recorded(made, unreadable)
            _check_cluster_name(made, others)
            refusals.check_host(made, observed)
        except ConfigError as err:
            # A network of the user's choice is refused; of ours, the next one is tried.
            problem = problem or err
            if err.key != "network":
                raise
        else:
            _check_instances(made, wishes)
            return made, text
    assert problem
    if wishes.network or not own:
        raise problem
    listed = ", ".join(own) if len(own) <= len(DEFAULT_NETWORKS) else f"{own[0]} to {own[-1]}"
    raise ConfigError(f"new cluster {cluster.name}: no network is free of those taken by default: {listed}",
                      "give another one (--network CIDR), or destroy a cluster")  # fmt: skip


def _check_recorded(made: ClusterConfig, clusters: Iterable[ClusterId]) -> None:
    """Refuse networks of clusters whose files cannot be read: Ganeti has recorded the addresses of their nodes."""
    for other in clusters:
        recorded = ganeti_files.initialised(other)
        for name, address in recorded.nodes.items() if recorded else ():
            for net in made.networks:
                if ip_address(address) in net:
                    raise key_error(made, "network", f"{net} has the address {address} of {name} of the cluster {other.name}",
                                    "give each cluster a network of its own (--network)")  # fmt: skip


def _check_cluster_name(made: ClusterConfig, others: Iterable[ClusterConfig]) -> None:
    """Refuse that a cluster is called as a node, its own or another's: `start`, `stop` and `restart` take either."""
    clusters = [made, *others]
    both = {one.id.name for one in clusters} & {node.id.name for one in clusters for node in one.nodes}
    if made.id.name in both or both & {node.id.name for node in made.nodes}:
        raise ConfigError(
            f"new cluster {made.id.name}: {min(both)} would be a cluster and a node", "choose another name"
        )


def _check_instances(made: ClusterConfig, wishes: UpOptions) -> None:
    if (wishes.instances or 0) > len(made.instances):
        raise key_error(made, "instances", f"there are names for {len(made.instances)} instances, "
                        f"not for {wishes.instances}", "raise it, then: systemctl reload ganeti-vcluster")  # fmt: skip


def existing_config(cluster: ClusterId, wishes: UpOptions) -> ClusterConfig:
    """The configuration of a cluster that has one; raises ConfigError where the options contradict it."""
    made = config_files.load(cluster)
    # The other clusters that can be read: a broken neighbour is its own problem.
    others = [loaded for other, loaded in config_files.read_configs()[0].items() if other != cluster]
    config.check_against(made, others)
    suffix = made.name.partition(".")[2]
    for option, wish, actual, hint in (
        ("--nodes", wishes.nodes, len(made.nodes), f"use: gnt-vcluster scale {cluster.name} --nodes {wishes.nodes}"),
        ("--domain", wishes.domain, suffix, "destroy the cluster first, or leave the option out"),
        ("--network", wishes.network, str(made.network), "destroy the cluster first, or leave the option out"),
    ):
        if wish is not None and wish != actual:
            raise ConfigError(f"{option} {shlex.quote(str(wish))}: the cluster {cluster.name} has {actual or 'none'} "
                              f"in {cluster.config_file}", hint)  # fmt: skip
    _check_instances(made, wishes)
    return made


def check_absent(cluster: ClusterId, who: str) -> None:
    """Raises VclusterError when a cluster that `who` wants to make for itself is there already."""
    if config_files.exists(cluster) or cluster.directory.exists():
        raise VclusterError(f"the cluster {cluster.name} exists, and {who} makes one of its own",
                            f"name another, or: gnt-vcluster destroy {cluster.name}")  # fmt: skip


def write_config(cluster: ClusterId, text: str) -> None:
    try:
        files.write(cluster.config_file, text)
    except OSError as err:
        raise StepFailed(f"cannot write {cluster.config_file}: {err.strerror}") from err


def create(cluster: ClusterId, wishes: UpOptions, dry_run: bool = False) -> ClusterConfig:
    """Write the configuration file of a new cluster, nothing else; with `dry_run`, not even that."""
    if config_files.exists(cluster):
        raise ConfigError(f"the cluster {cluster.name} exists already: {cluster.config_file}",
                          f"start it with: gnt-vcluster up {cluster.name}")  # fmt: skip
    made, text = new_config(cluster, wishes)
    if not dry_run:
        write_config(cluster, text)
    return made
