"""Memory, cores and disk are those that the process is left with, on machines laid out as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuron_explainer.pipeline.machine import (
    MemoryLimit,
    Mount,
    available_cores,
    available_memory_bytes,
    fast_bfloat16,
    find_mount,
    mount_of,
    parse_cpu_max,
    parse_group_paths,
    parse_meminfo,
    parse_memory_limit,
    total_memory_bytes,
)

GB = 1 << 30
MEMINFO = f"MemTotal:       {32 << 20} kB\nMemFree:   1 kB\nMemAvailable:   {20 << 20} kB\n"
V1_NO_LIMIT = "9223372036854771712\n"
MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
tmpfs /home/me/far/tmp tmpfs rw 0 0
//nas/share /mnt/big\\040disk cifs rw 0 0
/dev/vdb /srv ext4 rw 0 0
pool /srv lustre rw 0 0
"""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    """A machine: texts of /proc and /sys by path."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/jobs/mine\n",
    "sys/fs/cgroup/jobs/mine/memory.max": f"{8 * GB}\n",
    "sys/fs/cgroup/jobs/mine/memory.current": f"{5 * GB}\n",
    "sys/fs/cgroup/jobs/mine/memory.stat": f"anon {3 * GB}\ninactive_file {2 * GB}\n",
    "sys/fs/cgroup/jobs/memory.max": "max\n",
    "sys/fs/cgroup/jobs/memory.current": f"{6 * GB}\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n",
    # In its container the process's group is the whole tree: there is no docker/abc.
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{5 * GB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {2 * GB}\n",
}


@pytest.mark.parametrize(
    ("files", "available", "total"),
    [
        ({}, 20 * GB, 32 * GB),
        (V2, 5 * GB, 8 * GB),
        (V1, 5 * GB, 8 * GB),
        ({**V2, "sys/fs/cgroup/jobs/memory.max": f"{7 * GB}"}, GB, 7 * GB),
        ({**V2, "sys/fs/cgroup/jobs/mine/memory.max": "max"}, 20 * GB, 32 * GB),
        ({**V2, "sys/fs/cgroup/jobs/mine/memory.max": f"{2 * GB}"}, 0, 2 * GB),
        ({**V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT}, 20 * GB, 32 * GB),
        ({**V2, "proc/self/cgroup": "nonsense\n1:2\n\n"}, 20 * GB, 32 * GB),
    ],
    ids=["no group", "v2", "v1", "the group around it", "no limit", "over it", "v1 none", "odd"],
)
def test_memory_is_the_machines_or_what_the_groups_leave(
    tmp_path: Path, files: dict[str, str], available: int, total: int
) -> None:
    root = lay_out(tmp_path, files)
    assert available_memory_bytes(root) == available
    assert total_memory_bytes(root) == total


def test_without_proc_the_page_counts_answer(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory_bytes(tmp_path) <= total_memory_bytes(tmp_path) == physical


def test_this_machine_has_memory_and_cores() -> None:
    assert 0 < available_memory_bytes() <= total_memory_bytes()
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "at_most"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 1024),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
        ),
    ],
)
def test_cores_are_no_more_than_the_quota(
    tmp_path: Path, files: dict[str, str], at_most: int
) -> None:
    root = lay_out(tmp_path, {"proc/self/cgroup": "0::/\n", **files})
    assert available_cores(root) == min(at_most, available_cores(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000", 2.0), ("max 100000", None), ("-1 100000", None), (" ", None), ("1 0", None)],
)
def test_a_quota_is_cores(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


def test_the_groups_around_come_after_the_process_own() -> None:
    text = "4:memory:/a/b\n3:cpuset:/\n0::/../c\n"
    found = [str(path) for path in parse_group_paths(text, "memory")]
    assert found == ["memory/a/b", "memory/a", "memory", "c", "."]


def test_memory_texts_that_say_nothing_limit_nothing() -> None:
    assert parse_memory_limit("", "", "") is None
    assert parse_memory_limit("max", "5", "") is None
    assert parse_memory_limit("10", "4", "anon 3") == MemoryLimit(10, 4)
    assert parse_meminfo("") == {}


@pytest.mark.parametrize(
    ("cpuinfo", "flag"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16\nflags : fpu\n", "amx_bf16"),
        ("flags\t\t: fpu avx512_bf16 avx512f\n", "avx512_bf16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bf16"),
        ("flags\t\t: fpu avx2\nbugs : avx512_bf16\n", None),
        ("", None),
    ],
)
def test_bfloat16_is_read_from_the_processors_flags(
    tmp_path: Path, cpuinfo: str, flag: str | None
) -> None:
    assert fast_bfloat16(lay_out(tmp_path, {"proc/cpuinfo": cpuinfo})) == flag


@pytest.mark.parametrize(
    ("path", "kind", "is_network"),
    [
        ("/data", "ext4", False),
        ("/homework/x", "ext4", False),
        ("/home/you/run", "nfs4", True),
        ("/home/me/far", "fuse.sshfs", True),
        ("/home/me/far/tmp/run", "tmpfs", False),
        ("/mnt/big disk/run", "cifs", True),
        ("/srv/run", "lustre", True),
    ],
)
def test_a_path_lies_on_the_innermost_mount(path: str, kind: str, is_network: bool) -> None:
    found = find_mount(MOUNTS, Path(path))
    assert found is not None
    assert (found.kind, found.is_network) == (kind, is_network)


def test_a_machine_that_names_no_mounts_has_none(tmp_path: Path) -> None:
    assert mount_of(Path("/x"), tmp_path) is None
    assert find_mount("\nodd\n", Path("/x")) is None
    assert not Mount("/", "ext4").is_network
