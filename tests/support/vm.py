# SPDX-License-Identifier: BSD-2-Clause
"""The package on Debian's own kernel, in an emulated machine: what a container cannot show.

    tests/support/vm.py RELEASE DEB

A container has the kernel of the machine that runs it. Here are sysrq, the controllers of cgroup v2
and a reboot that is one. Emulation is about sixteen times slower than the machine (KVM is not asked
for: it does not work everywhere), so the list is short: tests/support/vm-stages, which runs inside at each
boot and writes its results to the second serial line.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.machine import CACHE, PACKAGES, RELEASES

LIMIT = 2400.0  #: seconds for all stages
VM_PACKAGES = (*PACKAGES, "linux-image-cloud-amd64", "initramfs-tools", "udev", "kmod")

#: Runs tests/support/vm-stages from the drive that carries the package, once the machine is up.
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /run/carrier && mount -o ro /dev/vdb /run/carrier && exec /run/carrier/vm-stages'
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity
[Install]
WantedBy=default.target
"""


def make_image(directory: Path, target: Path, size: str) -> None:
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(directory), str(target), size], check=True)


def disk(release: str) -> Path:
    """A directory with a bootable Debian: disk.img, vmlinuz, initrd.img; made when missing (about 2 minutes)."""
    key = hashlib.sha256(" ".join((*VM_PACKAGES, UNIT)).encode()).hexdigest()[:8]
    target = CACHE / f"vm-{release}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"vm-{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        print(f"making the {release} disk in {target}", file=sys.stderr)
        partial = CACHE / f"vm-{release}-{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        root = partial / "root"
        root.mkdir(parents=True)
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(VM_PACKAGES)}",
             "--skip=cleanup/apt", release, str(root)],
            check=True,
        )  # fmt: skip
        (root / "etc/systemd/system/vm-stages.service").write_text(UNIT)
        wants = root / "etc/systemd/system/default.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "vm-stages.service").symlink_to("/etc/systemd/system/vm-stages.service")
        (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
        (root / "etc/hostname").write_text("vctest\n")
        for kind in ("vmlinuz", "initrd.img"):
            (found,) = (root / "boot").glob(f"{kind}-*")
            shutil.copy(found, partial / kind)
        make_image(root, partial / "disk.img", "4G")
        shutil.rmtree(root)
        partial.rename(target)
    return target


def run(release: str, deb: Path) -> int:
    """Boot, and report what vm-stages reports. 0 when its last line says that all is done."""
    base = disk(release)
    with tempfile.TemporaryDirectory(prefix=f"gvc-vm-{release}-") as name:
        work = Path(name)
        carrier = work / "carrier"
        carrier.mkdir()
        shutil.copy(deb, carrier)
        shutil.copy(Path(__file__).with_name("vm-stages"), carrier)
        make_image(carrier, work / "carrier.img", "16M")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base / "disk.img"),
                        str(work / "disk.qcow2")], check=True)  # fmt: skip
        (work / "results").touch()
        try:
            subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "accel=tcg", "-m", "3072",
                 "-smp", "2", "-cpu", "max", "-display", "none", "-monitor", "none", "-nic", "none",
                 "-kernel", str(base / "vmlinuz"), "-initrd", str(base / "initrd.img"),
                 "-append", "console=ttyS0 root=/dev/vda rw quiet",
                 "-drive", f"file={work}/disk.qcow2,if=virtio", "-drive", f"file={work}/carrier.img,format=raw,if=virtio",
                 "-serial", f"file:{work}/console", "-serial", f"file:{work}/results"],
                check=True, timeout=LIMIT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"not done within {LIMIT:.0f} s", file=sys.stderr)
        results = (work / "results").read_text(errors="replace").replace("\r", "")
        print(results, end="")
        if results.endswith("all done\n"):
            return 0
        console = (work / "console").read_text(errors="replace").splitlines()
        print("\n".join(["--- console", *console[-60:]]), file=sys.stderr)
        return 1


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2 or argv[0] not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    return run(argv[0], Path(argv[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
