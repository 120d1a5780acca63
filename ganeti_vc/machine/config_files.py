# SPDX-License-Identifier: BSD-2-Clause
"""The configuration files in /etc/ganeti-vcluster: which there are, and reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ganeti_vc.base.errors import ConfigError, VclusterError
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, key_error, parse
from ganeti_vc.model.conflicts import check_against
from ganeti_vc.model.names import ClusterId


def load(cluster: ClusterId) -> ClusterConfig:
    """Read the configuration file of a cluster. Raises ConfigError."""
    try:
        return parse(cluster, cluster.config_file.read_text())
    except (OSError, UnicodeDecodeError) as err:
        if not exists(cluster):
            raise ConfigError(
                f"there is no cluster {cluster.name}: {cluster.config_file} does not exist",
                f"make it with: gnt-vcluster up {cluster.name}",
            ) from None
        reason = err.strerror if isinstance(err, OSError) else f"{err.reason} in UTF-8"
        raise ConfigError(
            f"cannot read {cluster.config_file}: {reason}", "fix it, or move it out of the directory"
        ) from None


def load_present(cluster: ClusterId) -> ClusterConfig:
    """As `load`, for commands that act on nodes. Raises ConfigError when the file's names are those of other nodes."""
    config = load(cluster)
    for node in config.nodes:
        with contextlib.suppress(FileNotFoundError):
            owner = node.id.registry_link.readlink().parent
            if owner != cluster.directory:
                raise key_error(
                    config,
                    "domain",
                    f"the name {node.id.name} belongs to the cluster {owner.name} already",
                    "give the clusters different domains",
                )
    if not any((node.id.data_dir / "config.data").exists() for node in config.nodes):
        there = [path.parts[-5] for path in cluster.directory.glob("[!.]*/var/lib/ganeti/config.data")]
        if there:
            raise key_error(
                config,
                "domain",
                f"Ganeti's nodes are called {min(there)}, ...",
                f"set it back, or: gnt-vcluster destroy {cluster.name}",
            )
    return config


def exists(cluster: ClusterId) -> bool:
    """Tell whether there is a configuration file; a link to nowhere counts."""
    return os.path.lexists(cluster.config_file)


def declared() -> tuple[ClusterId, ...]:
    """Return the clusters that have a configuration file."""
    stems = (path.stem for path in names.CONFIG_DIR.glob("*.conf"))
    return tuple(ClusterId(name) for name in sorted(stems) if names.is_cluster_id(name))


def misnamed() -> dict[str, ConfigError]:
    """Return the errors of configuration files whose names cannot name clusters, by that name."""
    errors: dict[str, ConfigError] = {}
    for path in sorted(names.CONFIG_DIR.glob("*.conf")):
        try:
            ClusterId.parse(path.stem)
        except VclusterError as err:
            errors[path.stem] = ConfigError(f"{path}: {err.message}", err.hint)
    return errors


def read(
    clusters: Iterable[ClusterId], check_each_other: bool = False
) -> tuple[dict[ClusterId, ClusterConfig], dict[ClusterId, VclusterError]]:
    """Read the files of these clusters. Return the configurations, and the errors of the others.

    With `check_each_other`, a cluster that shares something with one before it is an error, too.
    """
    configs: dict[ClusterId, ClusterConfig] = {}
    errors: dict[ClusterId, VclusterError] = {}
    for cluster in clusters:
        try:
            config = load(cluster)
            if check_each_other:
                check_against(config, configs.values())
        except VclusterError as err:
            errors[cluster] = err
        else:
            configs[cluster] = config
    return configs, errors


def read_configs() -> tuple[dict[ClusterId, ClusterConfig], dict[ClusterId, VclusterError]]:
    """Return all clusters that can be used, and the errors of the others: one bad file does not stop its neighbours."""
    configs, errors = read(declared(), check_each_other=True)
    return configs, {**{ClusterId(name): err for name, err in misnamed().items()}, **errors}
