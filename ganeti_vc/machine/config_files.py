# SPDX-License-Identifier: BSD-2-Clause
"""The configuration files in /etc/ganeti-vcluster: which there are, and reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ganeti_vc.base.errors import ConfigError, VclusterError
from ganeti_vc.model import config, names
from ganeti_vc.model.config import ClusterConfig, key_error, parse
from ganeti_vc.model.names import ClusterId


def load(cluster: ClusterId) -> ClusterConfig:
    """Read the configuration file of a cluster. Raises ConfigError."""
    try:
        return parse(cluster, cluster.config_file.read_text())
    except (OSError, UnicodeDecodeError) as err:
        if not exists(cluster):
            raise ConfigError(f"there is no cluster {cluster.name}: {cluster.config_file} does not exist",
                              f"make it with: gnt-vcluster up {cluster.name}") from None  # fmt: skip
        reason = err.strerror if isinstance(err, OSError) else f"{err.reason} in UTF-8"
        raise ConfigError(f"cannot read {cluster.config_file}: {reason}",
                          "fix it, or move it out of the directory") from None  # fmt: skip


def load_present(cluster: ClusterId) -> ClusterConfig:
    """As `load`, for commands that act on nodes. Raises ConfigError when the file's names are those of other nodes."""
    made = load(cluster)
    for node in made.nodes:
        with contextlib.suppress(FileNotFoundError):
            owner = node.id.registry_link.readlink().parent
            if owner != cluster.directory:
                raise key_error(made, "domain", f"the name {node.id.name} belongs to the cluster {owner.name} already",
                                "give the clusters different domains")  # fmt: skip
    if not any((node.id.data_dir / "config.data").exists() for node in made.nodes):
        there = [path.parts[-5] for path in cluster.directory.glob("[!.]*/var/lib/ganeti/config.data")]
        if there:
            raise key_error(made, "domain", f"Ganeti's nodes are called {min(there)}, ...",
                            f"set it back, or: gnt-vcluster destroy {cluster.name}")  # fmt: skip
    return made


def exists(cluster: ClusterId) -> bool:
    """Tell whether there is a configuration file; a link to nowhere counts."""
    return os.path.lexists(cluster.config_file)


def declared() -> tuple[ClusterId, ...]:
    """Return the clusters that have a configuration file."""
    found = (path.stem for path in names.CONFIG_DIR.glob("*.conf"))
    return tuple(ClusterId(name) for name in sorted(found) if names.is_cluster_id(name))


def misnamed() -> dict[str, ConfigError]:
    """Return the errors of configuration files whose names cannot name clusters, by that name."""
    found = sorted(path for path in names.CONFIG_DIR.glob("*.conf") if not names.is_cluster_id(path.stem))
    return {path.stem: ConfigError(f"{path}: {path.stem!r} cannot name a cluster",
                                   "use small letters, digits and '-', at most 32 characters")
            for path in found}  # fmt: skip


def readable(clusters: Iterable[ClusterId]) -> tuple[list[ClusterConfig], dict[ClusterId, VclusterError]]:
    """Read the files of these clusters, each by itself. Return the configurations, and the errors of the others."""
    good: list[ClusterConfig] = []
    bad: dict[ClusterId, VclusterError] = {}
    for cluster in clusters:
        try:
            good.append(load(cluster))
        except VclusterError as err:
            bad[cluster] = err
    return good, bad


def read_configs() -> tuple[dict[ClusterId, ClusterConfig], dict[ClusterId, VclusterError]]:
    """Return all clusters that can be used, and the errors of the others: one bad file does not stop its neighbours."""
    good: dict[ClusterId, ClusterConfig] = {}
    bad: dict[ClusterId, VclusterError] = {ClusterId(name): err for name, err in misnamed().items()}
    for cluster in declared():
        try:
            loaded = load(cluster)
            config.check_against(loaded, good.values())
        except VclusterError as err:
            bad[cluster] = err
        else:
            good[cluster] = loaded
    return good, bad
