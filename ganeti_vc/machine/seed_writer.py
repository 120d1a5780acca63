# SPDX-License-Identifier: BSD-2-Clause
"""Writing nodes and instances straight into the configuration of a stopped cluster, with Ganeti's own classes.

A program of its own, tools/seeding/seed, which runs on the master and reads what to write as JSON (machine/seed.py): it
needs the variables of that node and Ganeti's modules, and nothing else imports it.

What `gnt-node add` does with some thirty calls to every node of the cluster, and `gnt-instance add` with its job, comes
down to files here. Which of them a node needs, by its role, follows from backend.py and bootstrap.py. All nodes get their
files first; the master's configuration comes last and at once, so that an interrupted run has changed nothing that Ganeti
reads. The directories belong to Ganeti's users: no link in them is followed.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import OpenSSL
from ganeti import config, constants, objects, pathutils, runtime, serializer, utils
from ganeti.utils import x509

from ganeti_vc.base import files
from ganeti_vc.node import libc

Spec: TypeAlias = dict[str, Any]  # one node or instance of the JSON document
Job: TypeAlias = tuple[str, int, bytes, bytes | None]  # name, serial number, signing pair, shared key

DAY = 86400
VALIDITY = constants.X509_CERT_DEFAULT_VALIDITY * DAY
DATA_DIR = Path(pathutils.DATA_DIR)
ROOTDIR = Path(os.environ["GANETI_ROOTDIR"])
#: Files below the data directory that are the same on every node. No node gets what the master lacks.
COMMON = (
    "server.pem", "rapi.pem", "spice.pem", "spice-ca.pem", "hmac.key", "cluster-domain-secret", "known_hosts",
    "ssh_user_known_hosts", "rapi/users",
)  # fmt: skip
#: Where the readers try the configuration, in a mount namespace. The path is short, because of the sockets' names.
TRIAL_DIR = "/run/ganeti-vcluster"
TRIAL_LIMIT = 120.0


def make_groups(data: Any, names: Iterable[str], now: float) -> dict[str, Any]:
    """Return the node groups by name. Groups that are missing are added to `data`."""
    present = {group.name: group for group in data.nodegroups.values()}
    for name in names:
        if name not in present:
            group = objects.NodeGroup(uuid=utils.NewUUID(), name=name, members=[], diskparams={}, ndparams={}, ipolicy={},
                                      networks={}, alloc_policy=constants.ALLOC_POLICY_PREFERRED, serial_no=1, ctime=now,
                                      mtime=now, tags=set())  # fmt: skip
            group.UpgradeConfig()
            data.nodegroups[group.uuid] = group
            present[name] = group
    return present


def make_nodes(data: Any, wanted: Iterable[Spec], groups: Mapping[str, Any], now: float) -> list[Any]:
    """Add nodes to `data` and to their groups. Return them."""
    nodes = []
    candidates = sum(node.master_candidate for node in data.nodes.values())
    for spec in wanted:
        candidate = candidates < data.cluster.candidate_pool_size
        candidates += candidate
        node = objects.Node(
            uuid=utils.NewUUID(), name=spec["name"], primary_ip=spec["address"],
            secondary_ip=spec["secondary"] or spec["address"], master_candidate=candidate, offline=False, drained=False,
            master_capable=True, vm_capable=True, powered=True, group=groups[spec["group"]].uuid, ndparams={},
            serial_no=1, ctime=now, mtime=now, tags=set(spec["tags"]),
        )  # fmt: skip
        node.UpgradeConfig()
        data.nodes[node.uuid] = node
        groups[spec["group"]].members.append(node.uuid)
        nodes.append(node)
    return nodes


def make_instances(data: Any, wanted: Iterable[Spec], hypervisor: str, now: float) -> None:
    """Add instances to `data`."""
    nodes = {node.name: node for node in data.nodes.values()}
    for spec in wanted:
        instance = objects.Instance(
            uuid=utils.NewUUID(), name=spec["name"], primary_node=nodes[spec["node"]].uuid, os=spec["os"],
            hypervisor=hypervisor, hvparams={},
            beparams={constants.BE_MINMEM: spec["memory"], constants.BE_MAXMEM: spec["memory"],
                      constants.BE_VCPUS: spec["vcpus"]},
            osparams={}, osparams_private={}, nics=[], disks=[], disks_active=False,
            admin_state=constants.ADMINST_UP if spec["up"] else constants.ADMINST_DOWN,
            admin_state_source=constants.ADMIN_SOURCE, serial_no=1, ctime=now, mtime=now, tags=set(spec["tags"]),
        )  # fmt: skip
        instance.UpgradeConfig()
        data.instances[instance.uuid] = instance


def certificate(job: Job) -> str:
    """Return a node's own key and certificate, signed by the cluster's, in PEM. Runs in a process of its own."""
    name, serial, signing, shared = job
    if shared is None:
        key, signed = x509.GenerateSignedX509Cert(name, VALIDITY, serial, signing)
        return bytes(key + signed).decode()
    crypto = OpenSSL.crypto
    issuer = crypto.load_certificate(crypto.FILETYPE_PEM, signing)
    key = crypto.load_privatekey(crypto.FILETYPE_PEM, shared)
    signed = crypto.X509()
    signed.get_subject().CN = name
    signed.set_serial_number(serial)
    signed.gmtime_adj_notBefore(0)
    signed.gmtime_adj_notAfter(VALIDITY)
    signed.set_issuer(issuer.get_subject())
    signed.set_pubkey(key)
    signed.sign(crypto.load_privatekey(crypto.FILETYPE_PEM, signing), constants.X509_CERT_SIGN_DIGEST)
    return shared.decode() + bytes(crypto.dump_certificate(crypto.FILETYPE_PEM, signed)).decode()


def make_certificates(nodes: Sequence[Any], shared_key: bool, now: float) -> dict[str, str]:
    """Return keys and certificates by node name. With a shared key each node still has a certificate of its own."""
    signing = read(DATA_DIR, "server.pem")[0]
    shared = None
    if shared_key:
        key = OpenSSL.crypto.PKey()
        key.generate_key(OpenSSL.crypto.TYPE_RSA, constants.RSA_KEY_BITS)
        shared = OpenSSL.crypto.dump_privatekey(OpenSSL.crypto.FILETYPE_PEM, key)
    jobs = [(node.name, int(now) + number, signing, shared) for number, node in enumerate(nodes)]
    if shared_key or len(jobs) < 4:
        return dict(zip([job[0] for job in jobs], map(certificate, jobs), strict=True))
    with multiprocessing.Pool() as pool:
        return dict(zip([job[0] for job in jobs], pool.imap(certificate, jobs, chunksize=1), strict=True))


def as_text(data: Any) -> bytes:
    """Return the JSON text of config.data."""
    raw = data.ToDict(_with_private=True)
    for instance in raw["instances"].values():
        # These are of the Python side only: for them the Haskell daemons would refuse the whole file.
        instance.pop("disks_info", None)
        instance.pop("disk_template", None)
    text = serializer.DumpJson(raw, private_encoder=serializer.EncodeWithPrivateFields)
    return text if isinstance(text, bytes) else text.encode()


def check(text: bytes) -> dict[str, str]:
    """Have both of Ganeti's readers check the new configuration. Return the ssconf values; end the program on an error."""
    ents = runtime.GetEnts()
    # In a mount namespace of its own: nobody else sees what is in it, and nothing of it is left when this process ends.
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("", "/", libc.MS_SLAVE | libc.MS_REC)
    options = f"mode=0750,gid={ents.masterd_gid}"
    libc.mount("tmpfs", TRIAL_DIR, libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, "tmpfs", options)
    check_haskell(text, ents)
    # A copy, as ConfigWriter rewrites a file that needs an upgrade.
    copy = Path(TRIAL_DIR) / "config.data"
    copy.write_bytes(text)
    writer = config.ConfigWriter(cfg_file=str(copy), offline=True, accept_foreign=True)
    errors = writer.VerifyConfig()
    values: dict[str, str] = writer.GetSsconfValues()
    if errors:
        sys.exit(f"Ganeti finds: {errors[0]}" + (f" and {len(errors) - 1} more" if errors[1:] else ""))
    return values


def check_haskell(text: bytes, ents: Any) -> None:
    """Have a wconfd load the configuration in another place, and without a network, where it can tell nobody."""
    root = Path(TRIAL_DIR) / os.environ["GANETI_HOSTNAME"]
    data = root / "var/lib/ganeti"
    for place in (
        data,
        *(root / name for name in ("var/run/ganeti/socket", "var/run/ganeti/livelocks", "var/log/ganeti", "var/lock")),
    ):
        place.mkdir(parents=True)
    with files.directory(DATA_DIR) as own:
        for name in os.listdir(own):
            if name.startswith("ssconf_") or name == "server.pem":
                (data / name).write_bytes(read(DATA_DIR, name)[0])
    (data / "config.data").write_bytes(text)
    for directory, _, names in os.walk(root):
        for name in (directory, *(f"{directory}/{name}" for name in names)):
            os.chown(name, ents.masterd_uid, ents.masterd_gid)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", f"--reuid={ents.masterd_uid}", f"--regid={ents.masterd_gid}", "--init-groups",
             "/usr/sbin/ganeti-wconfd", "-f", "--no-user-checks", "--no-voting", "--yes-do-it"],
            env={**os.environ, "GANETI_ROOTDIR": str(root)}, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        deadline = time.monotonic() + TRIAL_LIMIT
        try:
            while not is_answered(root / "var/run/ganeti/socket/ganeti-wconfd", deadline):
                if process.poll() is not None:
                    said.seek(0)
                    sys.exit(
                        f"ganeti-wconfd does not take it: {' '.join(said.read().decode(errors='replace').split()[-60:])}"
                    )
                if time.monotonic() > deadline:
                    sys.exit("ganeti-wconfd does not answer")
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()


def is_answered(path: Path, deadline: float) -> bool:
    """Ask a wconfd for an echo. It makes its socket first, and answers when it has loaded the configuration."""
    with socket.socket(socket.AF_UNIX) as asked, contextlib.suppress(FileNotFoundError, ConnectionError, TimeoutError):
        asked.settimeout(max(0.02, deadline - time.monotonic()))
        asked.connect(str(path))
        asked.sendall(json.dumps({"method": "echo", "args": ["loaded"]}).encode() + constants.LUXI_EOM)
        return b"loaded" in asked.recv(4096)
    return False


def in_wconfds_order(values: Mapping[str, str], data: Any) -> dict[str, str]:
    """Return the ssconf values in the order of Ganeti's Haskell side (WConfd/Ssconf.hs), which writes them from now on.

    Now and then wconfd writes to one node group only. In another order `verify` would then find different files.
    """
    cluster = data.cluster
    candidates = [
        node for uuid, node in sorted(data.nodes.items()) if node.master_candidate or uuid == cluster.master_node
    ]
    groups = sorted(data.nodegroups.values(), key=lambda group: utils.NiceSortKey(group.name))
    lines = {
        "cluster_tags": sorted(cluster.GetTags()),
        "master_candidates": [node.name for node in candidates],
        "master_candidates_ips": [node.primary_ip for node in candidates],
        "master_candidates_certs": [f"{uuid}={digest}" for uuid, digest in sorted(cluster.candidate_certs.items())],
        "networks": sorted(values["networks"].splitlines()),
        "nodegroups": [f"{group.uuid} {group.name}" for group in groups],
    }
    for name, value in values.items():
        if name.startswith("hvparams_"):
            lines[name] = sorted(value.splitlines(), key=lambda line: line.partition("=")[0])
    return {**values, **{name: "\n".join(of_it) for name, of_it in lines.items()}}


@contextlib.contextmanager
def opened(place: Path, name: str) -> Iterator[tuple[int, str]]:
    """Open the directory of a file below `place`, where Ganeti's users may put anything. Errors name the file."""
    try:
        head, _, tail = name.rpartition("/")
        with contextlib.ExitStack() as stack:
            fd = stack.enter_context(files.directory(place))
            yield (stack.enter_context(files.directory(head, inside=fd)) if head else fd), tail
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(place / name)) from None


def read(place: Path, name: str) -> tuple[bytes, os.stat_result]:
    """Return the content and the status of a file of Ganeti's users."""
    with opened(place, name) as (directory, tail):
        return files.read_in(directory, tail)


def make_directory(place: Path, name: str, like: os.stat_result) -> None:
    """Make a directory below `place`, with owner and mode of another one, if it is missing."""
    with opened(place, name) as (directory, tail), contextlib.suppress(FileExistsError):
        os.mkdir(tail, 0o700, dir_fd=directory)
        with files.directory(tail, inside=directory) as made:
            os.fchown(made, like.st_uid, like.st_gid)
            os.fchmod(made, like.st_mode & 0o7777)


class Staged:
    """Files of many nodes that are written first, and get their names when all of them are on the disk."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._files: list[tuple[Path, str]] = []

    def add(self, place: Path, name: str, content: bytes, like: os.stat_result) -> None:
        """Write a file below a directory, with owner and mode of another one."""
        with opened(place, name) as (directory, tail):
            self._files.append((place, name))
            files.stage(directory, tail, content, like.st_mode & 0o7777, (like.st_uid, like.st_gid), sync=False)

    def commit(self) -> None:
        """Give all files their names, in the order in which they were added."""
        sync()
        while self._files:
            with opened(*self._files[0]) as (directory, tail):
                files.commit(directory, tail)
            del self._files[0]
        sync()

    def discard(self) -> None:
        """Remove what has no name yet."""
        for place, name in self._files:
            with contextlib.suppress(OSError), opened(place, name) as (directory, tail):
                files.discard(directory, tail)


def sync() -> None:
    """Write all nodes' files to the disk: far quicker than each of thousands."""
    with files.directory(ROOTDIR.parent) as cluster:
        libc.syncfs(cluster, str(ROOTDIR.parent))


def stage(staged: Staged, data: Any, certificates: Mapping[str, str], values: Mapping[str, str], text: bytes) -> None:
    """Write to every node what its role needs; noded makes queue and job files itself. The master's configuration is last."""
    common = []
    for name in COMMON:
        with contextlib.suppress(FileNotFoundError):
            common.append((name, *read(DATA_DIR, name)))
    ssconf_like = read(DATA_DIR, "ssconf_cluster_name")[1]
    # With a line's end, as ssconf.SimpleStore.WriteFiles.
    ssconf = [(f"ssconf_{name}", (f"{value}\n" if value and not value.endswith("\n") else value).encode(), ssconf_like)
              for name, value in values.items()]  # fmt: skip
    config_like, client_like = read(DATA_DIR, "config.data")[1], read(DATA_DIR, "client.pem")[1]
    with files.directory(DATA_DIR) as own:
        rapi_like = os.stat("rapi", dir_fd=own, follow_symlinks=False)
    for node in data.nodes.values():
        if node.uuid == data.cluster.master_node:
            continue
        target = ROOTDIR.parent / node.name / "var/lib/ganeti"
        make_directory(target, "rapi", rapi_like)
        for name, content, like in (*common, *ssconf):
            staged.add(target, name, content, like)
        if node.name in certificates:
            staged.add(target, "client.pem", certificates[node.name].encode(), client_like)
        if node.master_candidate:
            staged.add(target, "config.data", text, config_like)
    staged.add(DATA_DIR, "config.data", text, config_like)
    for name, content, like in ssconf:
        staged.add(DATA_DIR, name, content, like)


def start_instances(wanted: Iterable[Spec]) -> None:
    """Write what the fake hypervisor keeps of a running instance (hv_fake.py)."""
    for spec in wanted:
        if spec["up"]:
            run_dir = ROOTDIR.parent / spec["node"] / "var/run/ganeti"
            run_dir.mkdir(mode=0o775, parents=True, exist_ok=True)
            with files.directory(run_dir) as place, contextlib.suppress(FileExistsError):
                os.mkdir("fake-hypervisor", 0o775, dir_fd=place)
            with opened(run_dir, f"fake-hypervisor/{spec['name']}") as (place, name):
                files.stage(place, name, f"0\n{spec['memory']}\n{spec['vcpus']}\n".encode(), 0o644, sync=False)
                files.commit(place, name)


def main() -> None:
    """Entry point of tools/seeding/seed: reads JSON on standard input."""
    os.umask(0o022)
    wanted = json.load(sys.stdin)
    staged = Staged()
    try:
        write(wanted, staged)
    except OSError as err:
        sys.exit(f"{err.filename}: {err.strerror}")
    finally:
        staged.discard()


def write(wanted: Mapping[str, Any], staged: Staged) -> None:
    """Add what is wanted to the configuration, have it checked, and write it to all nodes."""
    now = time.time()
    data = objects.ConfigData.FromDict(serializer.Load(read(DATA_DIR, "config.data")[0]))
    groups = make_groups(data, wanted["groups"], now)
    nodes = make_nodes(data, wanted["nodes"], groups, now)
    certificates = make_certificates(nodes, wanted["shared_key"], now)
    for node in nodes:
        if node.master_candidate:
            own = OpenSSL.crypto.load_certificate(OpenSSL.crypto.FILETYPE_PEM, certificates[node.name])
            data.cluster.candidate_certs[node.uuid] = own.digest("sha1").decode()
    # The lists of nodes in the ssconf files have this order.
    data.nodes = dict(sorted(data.nodes.items(), key=lambda item: utils.NiceSortKey(item[1].name)))
    make_instances(data, wanted["instances"], data.cluster.enabled_hypervisors[0], now)
    data.serial_no += 1
    data.cluster.serial_no += 1
    data.mtime = data.cluster.mtime = now
    text = as_text(data)
    stage(staged, data, certificates, in_wconfds_order(check(text), data), text)
    start_instances(wanted["instances"])
    staged.commit()
