# SPDX-License-Identifier: BSD-2-Clause
"""From the options of `up` and `create` to a configuration: a new one, or the one that exists."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from ganeti_vc.base import files
from ganeti_vc.base.errors import ConfigError, StepFailed, VclusterError
from ganeti_vc.machine import config_files, ganeti_files, root_login
from ganeti_vc.model import config, conflicts, keys
from ganeti_vc.model.addresses import DEFAULT_NETWORKS, AddressPlan
from ganeti_vc.model.config import ClusterConfig, key_error
from ganeti_vc.model.names import ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.reconcile import observe, refusals
from ganeti_vc.reconcile.state import MachineState

log = logging.getLogger(__name__)

DEFAULT_NODES = 3
#: So many names of instances are set up at least.
DEFAULT_INSTANCES = 10


def new_config(cluster: ClusterId, options: UpOptions) -> tuple[ClusterConfig, str]:
    """Return a configuration for a cluster that has none yet, and its text. Nothing is written.

    Without options, the domain is the cluster's name, or none for the cluster `default`; the network is the first usual
    one that is free and large enough. Raises ConfigError that names the key and what is in the way.
    """
    readable, unreadable = config_files.read(other for other in config_files.declared() if other != cluster)
    others = list(readable.values())
    for other, err in unreadable.items():
        log.warning("left out of the check for overlaps: the cluster %s: %s", other.name, err)
    networks = _networks(options)
    state = observe.observe({})
    first: ConfigError | None = None
    for network in networks:
        text = keys.render(_values(cluster, options, network))
        try:
            new = config.parse(cluster, text, f"new cluster {cluster.name}")
            _check_new(new, others, unreadable, replace(state, login_obstacles={cluster: root_login.obstacles(new)}))
        except ConfigError as err:
            # A network that the user has chosen is refused; of the usual ones, the next is tried.
            first = first or err
            if err.key != "network":
                raise
        else:
            _check_instances(new, options)
            for doubt in refusals.doubts(new):
                log.warning("%s", doubt)
            return new, text
    assert first
    if options.network or not _fitting(options):
        raise first
    listed = ", ".join(networks) if len(networks) <= len(DEFAULT_NETWORKS) else f"{networks[0]} to {networks[-1]}"
    raise ConfigError(
        f"new cluster {cluster.name}: no network is free of those taken by default: {listed}",
        "give another one (--network CIDR), or destroy a cluster",
    )


def _values(cluster: ClusterId, options: UpOptions, network: str) -> dict[str, str]:
    """Return the keys of [cluster] that differ from the defaults."""
    domain = options.domain
    if domain is None:
        domain = "" if cluster.name == "default" else cluster.name
    values = {"nodes": str(_nodes(options)), "instances": str(_instances(options)), "network": network}
    return {**values, "domain": domain} if domain else values


def _nodes(options: UpOptions) -> int:
    return DEFAULT_NODES if options.nodes is None else options.nodes


def _instances(options: UpOptions) -> int:
    return max(DEFAULT_INSTANCES, options.instances or 0)


def _fitting(options: UpOptions) -> list[str]:
    """Return the usual networks that are large enough."""
    nodes, instances = _nodes(options), _instances(options)
    return [str(network) for network in options.networks if AddressPlan(network).fits(nodes, instances)]


def _networks(options: UpOptions) -> list[str]:
    """Return the networks to try, in this order."""
    if options.network:
        return [options.network]
    return _fitting(options) or [str(DEFAULT_NETWORKS[-1])]


def _check_new(
    new: ClusterConfig, others: Sequence[ClusterConfig], unreadable: Iterable[ClusterId], state: MachineState
) -> None:
    conflicts.check_against(new, others)
    _check_recorded(new, unreadable)
    _check_cluster_name(new, others)
    refusals.check_host(new, state)


def _check_recorded(new: ClusterConfig, clusters: Iterable[ClusterId]) -> None:
    """Refuse networks of clusters whose files cannot be read: Ganeti has recorded the addresses of their nodes."""
    for other in clusters:
        recorded = ganeti_files.initialised(other)
        for name, address in recorded.nodes.items() if recorded else ():
            for network in new.networks:
                if ip_address(address) in network:
                    what = f"{network} has the address {address} of {name} of the cluster {other.name}"
                    raise key_error(new, "network", what, "give each cluster a network of its own (--network)")


def _check_cluster_name(new: ClusterConfig, others: Iterable[ClusterConfig]) -> None:
    """Refuse one name for a cluster and a node, its own or another's: `start`, `stop` and `restart` take either."""
    clusters = [new, *others]
    both = {one.id.name for one in clusters} & {node.id.name for one in clusters for node in one.nodes}
    if new.id.name in both or both & {node.id.name for node in new.nodes}:
        what = f"new cluster {new.id.name}: {min(both)} would be a cluster and a node"
        raise ConfigError(what, "choose another name")


def _check_instances(declared: ClusterConfig, options: UpOptions) -> None:
    if (options.instances or 0) > len(declared.instances):
        what = f"there are names for {len(declared.instances)} instances, not for {options.instances}"
        raise key_error(declared, "instances", what, "raise it, then: systemctl reload ganeti-vcluster")


def existing_config(cluster: ClusterId, options: UpOptions) -> ClusterConfig:
    """Return the configuration of a cluster that has one. Raises ConfigError where the options contradict it."""
    existing = config_files.load(cluster)
    # Other clusters whose files cannot be read do not matter here: `list` says what is wrong with them.
    others = [loaded for other, loaded in config_files.read_configs()[0].items() if other != cluster]
    conflicts.check_against(existing, others)
    domain = existing.name.partition(".")[2]
    scale = f"use: gnt-vcluster scale {cluster.name} --nodes {options.nodes}"
    destroy = "destroy the cluster first, or leave the option out"
    for option, wanted, actual, hint in (
        ("--nodes", options.nodes, len(existing.nodes), scale),
        ("--domain", options.domain, domain, destroy),
        ("--network", options.network, str(existing.network), destroy),
    ):
        if wanted is not None and wanted != actual:
            raise ConfigError(
                f"{option} {shlex.quote(str(wanted))}: the cluster {cluster.name} has {actual or 'none'} "
                f"in {cluster.config_file}",
                hint,
            )
    _check_instances(existing, options)
    return existing


def check_absent(cluster: ClusterId, command: str) -> None:
    """Raise VclusterError when a cluster exists that `command` wants to make for itself."""
    if config_files.exists(cluster) or cluster.directory.exists():
        raise VclusterError(
            f"the cluster {cluster.name} exists, and {command} makes one of its own",
            f"name another, or: gnt-vcluster destroy {cluster.name}",
        )


def write_config(cluster: ClusterId, text: str) -> None:
    """Write the configuration file. Raises StepFailed."""
    try:
        files.write(cluster.config_file, text)
    except OSError as err:
        raise StepFailed(f"cannot write {cluster.config_file}: {err.strerror}") from err


def create(cluster: ClusterId, options: UpOptions, dry_run: bool = False) -> ClusterConfig:
    """Write the configuration file of a new cluster; with `dry_run`, only check it. Raises ConfigError."""
    if config_files.exists(cluster):
        raise ConfigError(
            f"the cluster {cluster.name} exists already: {cluster.config_file}",
            f"start it with: gnt-vcluster up {cluster.name}",
        )
    new, text = new_config(cluster, options)
    if not dry_run:
        write_config(cluster, text)
    return new
