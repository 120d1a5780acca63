# SPDX-License-Identifier: BSD-2-Clause
"""What the options of `up`, `create`, `scale` and `run` ask for."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from ganeti_vc.model.addresses import DEFAULT_NETWORKS, Network

#: With `--join auto`, so many missing nodes or instances are written into Ganeti's configuration instead of added
#: one by one: each `gnt-node add` takes longer than the one before.
SEED_NODES_FROM = 8
SEED_INSTANCES_FROM = 20


@dataclass(frozen=True)
class UpOptions:
    """What the user asks for. None: not given."""

    nodes: int | None = None
    instances: int | None = None
    domain: str | None = None
    network: str | None = None
    join: str = "auto"  #: how nodes and instances get into the cluster: auto, ganeti or seeding
    shared_key: bool = True
    verify: bool = True
    networks: tuple[Network, ...] = DEFAULT_NETWORKS  #: to choose from when no network is given

    def seeds(self, nodes: Sized, instances: Sized) -> bool:
        """Tell whether these missing nodes and instances are written into Ganeti's configuration."""
        if self.join == "auto":
            return len(nodes) >= SEED_NODES_FROM or len(instances) >= SEED_INSTANCES_FROM
        return self.join == "seeding" and bool(nodes or instances)


NO_OPTIONS = UpOptions()
