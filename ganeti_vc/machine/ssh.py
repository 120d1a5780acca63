# SPDX-License-Identifier: BSD-2-Clause
"""The cluster's own ssh: keys, the server's configuration, the client's drop-in.

Ganeti logs in as root between nodes. Its own way (`gnt-cluster init` without --no-ssh-init) replaces
root's keys and the machine's host keys, so each cluster gets a key pair and a server of its own,
and root's ssh client learns by a drop-in that matches only the cluster's node names which key and
port to use. The server shows the machine's host keys, because those are what Ganeti puts into its
known_hosts file.
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
#: sshd's privilege separation directory, and the note of tools/services/sshd-listen that it had to make it.
PRIVSEP_DIR = Path("/run/sshd")
MADE_SSHD_DIR = names.RUN_DIR / "made-sshd-dir"


def private_key(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "id_ed25519"


def known_hosts(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "known_hosts"


def authorized_keys(cluster: ClusterId) -> Path:
    return cluster.ssh_directory / "authorized_keys"


def host_keys() -> tuple[Path, ...]:
    """The machine's host keys. Ganeti insists on an RSA key (bootstrap.InitCluster)."""
    found = tuple(path for path in HOST_KEYS if path.exists())
    if HOST_KEYS[0] not in found:
        raise VclusterError(f"this machine has no ssh host key {HOST_KEYS[0]}, which Ganeti needs",
                            "make it with: ssh-keygen -A")  # fmt: skip
    return found


def make_key(cluster: ClusterId) -> None:
    """Make the cluster's key pair and allow it to log in."""
    key = private_key(cluster)
    cluster.ssh_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ganeti-vcluster {cluster.name}", "-f", str(key)])


def root_is_locked() -> bool:
    """Whether root's password is locked with '!': without PAM, sshd then refuses root's key as well."""
    for line in Path("/etc/shadow").read_text().splitlines():
        user, password, *_ = line.split(":")
        if user == "root":
            return password.startswith("!")
    return False


def insecure_directories() -> tuple[tuple[Path, str], ...]:
    """Directories above the keys to which others than root may write, each with the command that mends it.

    sshd refuses keys below them (StrictModes in sshd_config(5)), and rightly so.
    """
    here = names.STATE_DIR.resolve()
    found = []
    for path in (*reversed(here.parents), here):
        if path.is_dir():
            status = path.stat()
            if status.st_uid != 0:
                found.append((path, f"chown root {path}"))
            elif status.st_mode & 0o022:
                found.append((path, f"chmod go-w {path}"))
    return tuple(found)


def server_config(cluster: ClusterId, keys: tuple[Path, ...], use_pam: bool) -> str:
    """sshd_config(5) of the cluster's server. It is started per connection (tools/services/sshd-listen)."""
    return "\n".join(
        [
            f"# Made by ganeti-vcluster for the cluster {cluster.name}.",
            *(f"HostKey {key}" for key in keys),
            f"AuthorizedKeysFile {authorized_keys(cluster)}",
            "AllowUsers root",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            # A login session per ssh command of Ganeti would cost more than the command.
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
    lines = []
    for key in keys:
        kind, blob, *_ = key.with_name(f"{key.name}.pub").read_text().split()
        lines.append(f"{config.name} {kind} {blob}\n")
    return "".join(lines)


def client_drop_in(config: ClusterConfig) -> str:
    """ssh_config(5) for root, and only for this cluster's node names."""
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
            # What stands first by default withstands quantum computers, and is nearly half of a login's cost.
            "    KexAlgorithms ^curve25519-sha256",
            "",
        ]
    )
