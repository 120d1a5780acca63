# SPDX-License-Identifier: BSD-2-Clause
"""The cluster's own ssh: keys, the server's configuration, the client's drop-in.

Ganeti logs in as root between nodes. `gnt-cluster init` without --no-ssh-init would replace root's keys and the machine's
host keys. So each cluster has a key pair and a server of its own. A drop-in, which matches only the names of the
cluster's nodes, tells root's ssh client the key and the port. The server shows the machine's host keys, because Ganeti
writes those into its known_hosts file.
"""

from __future__ import annotations

from pathlib import Path

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.process import run
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId

HOST_KEYS = tuple(Path(f"/etc/ssh/ssh_host_{kind}_key") for kind in ("rsa", "ecdsa", "ed25519"))
SSH_RUN_DIR = names.RUN_DIR / "ssh"
#: sshd's directory for privilege separation, and the note that tools/services/sshd-listen made it.
PRIVSEP_DIR = Path("/run/sshd")
MADE_SSHD_DIR = names.RUN_DIR / "made-sshd-dir"


def private_key(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "id_ed25519"


def known_hosts(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "known_hosts"


def authorized_keys(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "authorized_keys"


def host_keys() -> tuple[Path, ...]:
    """Return the machine's host keys. Raises VclusterError without an RSA key, which Ganeti needs (bootstrap.InitCluster)."""
    keys = tuple(path for path in HOST_KEYS if path.exists())
    if HOST_KEYS[0] not in keys:
        what = f"this machine has no ssh host key {HOST_KEYS[0]}, which Ganeti needs"
        raise VclusterError(what, "make it with: ssh-keygen -A")
    return keys


def make_key(cluster: ClusterId) -> None:
    """Make the cluster's key pair."""
    key = private_key(cluster)
    cluster.ssh_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ganeti-vcluster {cluster.name}", "-f", str(key)])


def root_is_locked() -> bool:
    """Tell whether root's password is locked with '!'. Then sshd without PAM refuses root's key as well."""
    for line in Path("/etc/shadow").read_text().splitlines():
        user, password, *_ = line.split(":")
        if user == "root":
            return password.startswith("!")
    return False


def insecure_directories() -> tuple[tuple[Path, str], ...]:
    """Return the directories above the keys to which others than root may write, each with the command that stops that.

    sshd refuses keys below them (StrictModes in sshd_config(5)).
    """
    here = names.STATE_DIR.resolve()
    insecure = []
    for path in (*reversed(here.parents), here):
        if path.is_dir():
            status = path.stat()
            if status.st_uid != 0:
                insecure.append((path, f"chown root {path}"))
            elif status.st_mode & 0o022:
                insecure.append((path, f"chmod go-w {path}"))
    return tuple(insecure)


def server_config(cluster: ClusterId, keys: tuple[Path, ...], use_pam: bool) -> str:
    """Return the sshd_config(5) of the cluster's server, which starts for each connection (tools/services/sshd-listen)."""
    return "\n".join(
        [
            f"# Made by ganeti-vcluster for the cluster {cluster.name}.",
            *(f"HostKey {key}" for key in keys),
            f"AuthorizedKeysFile {authorized_keys(cluster)}",
            "AllowUsers root",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            # Ganeti uses neither.
            "DisableForwarding yes",
            "PermitUserRC no",
            "LoginGraceTime 30",
            # With PAM, each of Ganeti's ssh commands would get a login session, which costs more than the command.
            f"UsePAM {'yes' if use_pam else 'no'}",
            "AcceptEnv LANG LC_*",
            "PrintMotd no",
            "PidFile none",
            "Subsystem sftp /usr/lib/openssh/sftp-server",
            f"ForceCommand {names.LIB_DIR}/ssh-entry",
            "",
        ]
    )


def listen_file(config: ClusterConfig) -> str:
    return "".join(f"{node.address} {config.ssh_port}\n" for node in config.nodes)


def known_hosts_file(config: ClusterConfig, keys: tuple[Path, ...]) -> str:
    """Return the text of the cluster's known_hosts: the machine's host keys under the cluster's name."""
    lines = []
    for key in keys:
        kind, blob, *_ = key.with_name(f"{key.name}.pub").read_text().split()
        lines.append(f"{config.name} {kind} {blob}\n")
    return "".join(lines)


def client_drop_in(config: ClusterConfig) -> str:
    """Return the ssh_config(5) for root, which matches only this cluster's node names."""
    hosts = ",".join(node.id.name for node in config.nodes)
    return "\n".join(
        [
            f"# Made by ganeti-vcluster for the cluster {config.id.name}; gone when it is stopped.",
            f"Match localuser root originalhost {hosts}",
            f"    Port {config.ssh_port}",
            f"    IdentityFile {private_key(config.id)}",
            "    IdentitiesOnly yes",
            f"    HostKeyAlias {config.name}",
            f"    GlobalKnownHostsFile {known_hosts(config.id)}",
            "    UserKnownHostsFile /dev/null",
            # The first by default withstands quantum computers, and makes nearly half of the cost of a login.
            "    KexAlgorithms ^curve25519-sha256",
            "",
        ]
    )
