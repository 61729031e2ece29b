"""What this process has of the machine: memory, cores, disk; control groups (1 and 2) included.

Every reading takes the root of the file system, so that tests lay out machines of their own.
Sources: proc(5), cgroups(7), Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
NO_LIMIT = 1 << 60
"""Control groups of version 1 write a number beyond this where there is no limit."""
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Processor flags (x86, Arm) of instructions that multiply bfloat16; the fastest first."""
SHARED_OVER_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|lustre|ceph|beegfs\w*|gpfs|afs|glusterfs|9p"
    r"|fuse\.(sshfs|glusterfs|ceph\S*|s3fs|rclone|gcsfuse|davfs\S*|mfs|juicefs)"
)


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """What a control group allows, and what it has taken of it."""

    limit_bytes: int
    used_bytes: int
    """Without the page cache that would be dropped first."""

    @property
    def left_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    point: str
    kind: str
    """`ext4`, `nfs4`, …"""

    @property
    def is_network(self) -> bool:
        return SHARED_OVER_NETWORK.fullmatch(self.kind) is not None


def available_memory_bytes(root: Path = ROOT) -> int:
    """What a process may still take: of the machine, or of what its control group leaves."""
    free = parse_meminfo(_read(root / "proc/meminfo")).get("MemAvailable")
    free = _pages("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if free is None else free
    return min([free, *(limit.left_bytes for limit in _memory_limits(root))])


def total_memory_bytes(root: Path = ROOT) -> int:
    """The machine's memory, or the limit of the process's control group."""
    total = parse_meminfo(_read(root / "proc/meminfo")).get("MemTotal")
    total = _pages("SC_PHYS_PAGES") if total is None else total
    return min([total, *(limit.limit_bytes for limit in _memory_limits(root))])


def available_cores(root: Path = ROOT) -> int:
    """Cores that this process may run on, and the quota of its control group, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [
        parse_cpu_max(_read(folder / "cpu.max"))
        or parse_cpu_max(
            f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
        )
        for folder in _group_folders(root, "cpu")
    ]
    return min([allowed or 1, *(math.ceil(quota) for quota in quotas if quota is not None)])


def fast_bfloat16(root: Path = ROOT) -> str | None:
    """The flag of the processor's fastest bfloat16 instructions; None where it has none."""
    flags = parse_cpu_flags(_read(root / "proc/cpuinfo"))
    return next((flag for flag in FAST_BFLOAT16 if flag in flags), None)


def mount_of(path: Path, root: Path = ROOT) -> Mount | None:
    """The file system that `path` lies on; None where the machine does not tell."""
    return find_mount(_read(root / "proc/mounts"), path.absolute())


def parse_meminfo(text: str) -> dict[str, int]:
    """`MemTotal:  24684092 kB` -> bytes by name."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, flags=re.MULTILINE)
    return {name: int(number) * 1024 for name, number in found}


def parse_group_paths(text: str, controller: str) -> list[PurePosixPath]:
    """/proc/self/cgroup -> folders below /sys/fs/cgroup: the process's own, then those around it.

    A container often sees its own group as the whole tree: folders that are not there limit
    nothing, and the outermost one does.
    """
    folders = []
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "?", "?"][:3]
        if controllers and controller not in controllers.split(","):
            continue
        inside = [part for part in path.split("/") if part not in ("", "..")]
        top = PurePosixPath(controller) if controllers else PurePosixPath()
        folders += [top.joinpath(*inside[:n]) for n in range(len(inside), -1, -1)]
    return folders


def parse_memory_limit(limit: str, used: str, stat: str) -> MemoryLimit | None:
    """The texts of a group's files; None where it sets no limit."""
    if not (limit.strip().isdecimal() and used.strip().isdecimal()) or int(limit) >= NO_LIMIT:
        return None
    by_name: dict[str, str] = dict(re.findall(r"^(\w+) (\d+)$", stat, flags=re.MULTILINE))
    cache = by_name.get("total_inactive_file") or by_name.get("inactive_file") or "0"
    return MemoryLimit(int(limit), max(0, int(used) - int(cache)))


def parse_cpu_max(text: str) -> float | None:
    """`150000 100000`, microseconds of each period -> 1.5 cores; None for `max` and -1."""
    match = re.fullmatch(r"\s*(\d+)\s+([1-9]\d*)\s*", text)
    return None if match is None else int(match[1]) / int(match[2])


def parse_cpu_flags(text: str) -> frozenset[str]:
    """/proc/cpuinfo -> the flags of its first processor."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def find_mount(mounts: str, path: Path) -> Mount | None:
    """/proc/mounts -> the innermost mount that holds `path`; of two at one place, the later."""
    found: Mount | None = None
    for line in mounts.splitlines():
        _, point, kind, *_ = [*line.split(" "), "", "", ""]
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)
        inside = point != "" and path.is_relative_to(point)
        if inside and (found is None or len(point) >= len(found.point)):
            found = Mount(point, kind)
    return found


def _memory_limits(root: Path) -> Iterator[MemoryLimit]:
    for folder in _group_folders(root, "memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            texts = [_read(folder / name) for name in (limit, used, "memory.stat")]
            found = parse_memory_limit(*texts)
            if found is not None:
                yield found


def _group_folders(root: Path, controller: str) -> list[Path]:
    inside = parse_group_paths(_read(root / "proc/self/cgroup"), controller)
    return [root / "sys/fs/cgroup" / path for path in inside]


def _pages(*names: str) -> int:
    """Bytes of the first kind of page count that this system knows."""
    known = next(name for name in names if name in os.sysconf_names)
    return os.sysconf(known) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    """Nothing where there is nothing to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
