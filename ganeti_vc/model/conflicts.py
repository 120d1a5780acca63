# SPDX-License-Identifier: BSD-2-Clause
"""What clusters of one machine cannot share: networks, names, devices."""

from __future__ import annotations

from collections.abc import Iterable

from ganeti_vc.model.config import ClusterConfig, key_error
from ganeti_vc.model.names import NodeId


def check_against(config: ClusterConfig, others: Iterable[ClusterConfig]) -> None:
    """Raise ConfigError when the cluster shares a network, a name or a device with another one of this machine."""
    mine = {name for _, name in config.hosts}
    for other in others:
        for network in config.networks:
            for foreign in other.networks:
                if network.version == foreign.version and network.overlaps(foreign):
                    raise key_error(
                        config,
                        "network",
                        f"{network} overlaps with {foreign} of the cluster {other.id.name}",
                        "give each cluster a network of its own (--network)",
                    )
        common = sorted(mine & {name for _, name in other.hosts})
        if common:
            raise key_error(
                config,
                "domain",
                f"the name {common[0]} belongs to the cluster {other.id.name} already",
                "give the clusters different domains (--domain)",
            )
        if config.device == other.device and (config.own_bridge or other.own_bridge):
            raise key_error(
                config, "device", f"{config.device} is the bridge of the cluster {other.id.name}", "leave it empty"
            )
        for ours in config.nodes:
            for theirs in other.nodes:
                _check_nesting(config, ours.id, theirs.id)


def _check_nesting(config: ClusterConfig, one: NodeId, two: NodeId) -> None:
    """Refuse names of which one contains the other: systemd nests a-b.slice in a.slice."""
    short, long = sorted((one.name, two.name), key=len)
    if long.startswith(f"{short}-"):
        raise key_error(
            config,
            "domain",
            f"systemd would put the slice of {long} inside that of {short}",
            "choose another domain",
        )
