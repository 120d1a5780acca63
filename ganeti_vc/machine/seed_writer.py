# SPDX-License-Identifier: BSD-2-Clause
"""Writing nodes and instances straight into the configuration of a stopped cluster, with Ganeti's own classes.

A program of its own, tools/seeding/seed, which runs on the master and reads what to write as JSON (machine/seed.py): it
needs the variables of that node and Ganeti's modules, and nothing else imports it.

What `gnt-node add` does with some thirty calls to every node of the cluster, and `gnt-instance add` with its job, comes
down to files here. Which of them a node needs, by its role, follows from backend.py and bootstrap.py. All nodes get their
files first; the master's configuration comes last and at once, so that an interrupted run has changed nothing that Ganeti
reads.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import OpenSSL
from ganeti import config, constants, objects, pathutils, runtime, serializer, ssconf, utils
from ganeti.utils import x509

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
#: Where a reader tries the configuration. The path is short, because of the sockets' names.
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
    signing = utils.ReadFile(pathutils.NODED_CERT_FILE)
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


def check(path: Path) -> dict[str, str]:
    """Have both of Ganeti's readers check the new configuration. Return the ssconf values; end the program on an error."""
    check_haskell(path)
    # On a copy, as ConfigWriter rewrites a file that needs an upgrade.
    with tempfile.NamedTemporaryFile(dir=path.parent) as copy:
        shutil.copy(path, copy.name)
        writer = config.ConfigWriter(cfg_file=copy.name, offline=True, accept_foreign=True)
        errors = writer.VerifyConfig()
        values: dict[str, str] = writer.GetSsconfValues()
    if errors:
        sys.exit(f"Ganeti finds: {errors[0]}" + (f" and {len(errors) - 1} more" if errors[1:] else ""))
    return values


def check_haskell(path: Path) -> None:
    """Have a wconfd load the configuration in another place, and without a network, where it can tell nobody."""
    ents = runtime.GetEnts()
    for left in Path(TRIAL_DIR).glob("seed-*"):  # of one that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="seed-", dir=TRIAL_DIR) as directory:
        os.chmod(directory, 0o755)
        root = Path(directory) / os.environ["GANETI_HOSTNAME"]
        data = root / "var/lib/ganeti"
        shutil.copytree(
            DATA_DIR, data, ignore=lambda _, names: [n for n in names if not n.startswith(("ssconf_", "server.pem"))]
        )
        shutil.copy(path, data / "config.data")
        for name in ("var/run/ganeti/socket", "var/run/ganeti/livelocks", "var/log/ganeti", "var/lock"):
            (root / name).mkdir(parents=True)
        for place, *_ in os.walk(root):
            shutil.chown(place, ents.masterd_uid, ents.confd_gid)
        for file in data.iterdir():
            shutil.chown(file, ents.masterd_uid, ents.confd_gid)
        socket = root / "var/run/ganeti/socket/ganeti-wconfd"
        process = subprocess.Popen(
            ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", f"--reuid={ents.masterd_uid}", f"--regid={ents.confd_gid}", "--clear-groups",
             "/usr/sbin/ganeti-wconfd", "-f", "--no-user-checks", "--no-voting", "--yes-do-it"],
            env={**os.environ, "GANETI_ROOTDIR": str(root)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + TRIAL_LIMIT
        try:
            # wconfd binds the socket when it has read the configuration.
            while not socket.exists() and time.monotonic() < deadline:
                if process.poll() is not None:
                    sys.exit(f"ganeti-wconfd does not take it: {' '.join(process.communicate()[0].split()[-60:])}")
                time.sleep(0.02)
            if not socket.exists():
                sys.exit("ganeti-wconfd does not answer")
        finally:
            process.kill()
            process.wait()


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
        "master_candidates": [node.name for node in candidates],
        "master_candidates_ips": [node.primary_ip for node in candidates],
        "master_candidates_certs": [f"{uuid}={digest}" for uuid, digest in sorted(cluster.candidate_certs.items())],
        "networks": sorted(values["networks"].splitlines()),
        "nodegroups": [f"{group.uuid} {group.name}" for group in groups],
    }
    lines |= {name: sorted(value.splitlines()) for name, value in values.items() if name.startswith("hvparams_")}
    return {**values, **{name: "\n".join(of_it) for name, of_it in lines.items()}}


def write(path: Path, content: bytes, like: os.stat_result) -> None:
    """Write a file at once, with owner and mode of another one."""
    fresh = f"{path}.seeded"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, content)
    os.fchown(fd, like.st_uid, like.st_gid)
    os.fchmod(fd, like.st_mode & 0o7777)
    os.close(fd)
    os.rename(fresh, path)


def distribute(
    data: Any, certificates: Mapping[str, str], ssconf_values: Mapping[str, str], configuration: bytes
) -> None:
    """Write to every node but the master what its role needs; noded makes queue and job files itself."""
    common = [
        (name, (DATA_DIR / name).read_bytes(), (DATA_DIR / name).stat())
        for name in COMMON
        if (DATA_DIR / name).exists()
    ]
    like = (DATA_DIR / "ssconf_cluster_name").stat()
    for name, value in ssconf_values.items():  # with a line's end, as ssconf.SimpleStore.WriteFiles
        common.append(
            (f"ssconf_{name}", (f"{value}\n" if value and not value.endswith("\n") else value).encode(), like)
        )
    config_like, client_like = (DATA_DIR / "config.data").stat(), (DATA_DIR / "client.pem").stat()
    users_like = (DATA_DIR / "rapi").stat() if (DATA_DIR / "rapi").exists() else None
    for node in data.nodes.values():
        if node.uuid == data.cluster.master_node:
            continue
        target = ROOTDIR.parent / node.name / "var/lib/ganeti"
        if users_like and not (target / "rapi").exists():
            (target / "rapi").mkdir()
            os.chown(target / "rapi", users_like.st_uid, users_like.st_gid)
            os.chmod(target / "rapi", users_like.st_mode & 0o7777)
        for name, content, stat in common:
            write(target / name, content, stat)
        if node.name in certificates:
            write(target / "client.pem", certificates[node.name].encode(), client_like)
        if node.master_candidate:
            write(target / "config.data", configuration, config_like)


def start_instances(wanted: Iterable[Spec]) -> None:
    """Write what the fake hypervisor keeps of a running instance (hv_fake.py)."""
    for spec in wanted:
        if spec["up"]:
            directory = ROOTDIR.parent / spec["node"] / "var/run/ganeti/fake-hypervisor"
            directory.mkdir(mode=0o775, parents=True, exist_ok=True)
            (directory / spec["name"]).write_text(f"0\n{spec['memory']}\n{spec['vcpus']}\n")


def main() -> None:
    """Entry point of tools/seeding/seed: reads JSON on standard input."""
    os.umask(0o022)
    wanted = json.load(sys.stdin)
    now = time.time()
    data = objects.ConfigData.FromDict(serializer.Load(utils.ReadFile(pathutils.CLUSTER_CONF_FILE)))
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
    present = DATA_DIR / "config.data"
    coming = DATA_DIR / "config.data.seed"
    write(coming, text, present.stat())
    try:
        values = in_wconfds_order(check(coming), data)
        distribute(data, certificates, values, text)
        start_instances(wanted["instances"])
        coming.rename(present)
    finally:
        coming.unlink(missing_ok=True)
    ssconf.WriteSsconfFiles(values)
