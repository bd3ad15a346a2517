"""The CPU's row, the limits of a container, and prices."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jupyter_llmops.gpus.cgroups import cpu_limit, memory_limit
from jupyter_llmops.gpus.host import _busy_percent, _Sample, read_host
from jupyter_llmops.gpus.inventory import _price
from jupyter_llmops.gpus.processes import merge_processes
from jupyter_llmops.records.gpu import Device

GIB = 1024**3
RAM = 64 * GIB


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_row_of_this_machine_has_values():
    device = read_host()
    assert device.kind == "cpu"
    assert "core" in device.name
    assert device.memory_total_bytes is not None
    assert 0 < device.memory_total_bytes <= psutil.virtual_memory().total
    assert device.memory_free_bytes is not None
    assert 0 < device.memory_free_bytes <= device.memory_total_bytes
    assert device.utilization_percent is not None
    assert 0 <= device.utilization_percent <= 100
    assert device.processes is None
    assert device.price_per_hour is None


def test_a_busy_core_is_seen():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            deadline = time.monotonic() + 30
            while (read_host().utilization_percent or 0) < 100 / (psutil.cpu_count() or 1) / 2:
                assert time.monotonic() < deadline, "a core in full use was never seen"
        finally:
            busy.kill()


def test_utilization_is_the_difference_of_two_samples():
    assert _busy_percent(_Sample(0, 10, 100, 2), _Sample(1, 15, 110, 2)) == 50
    assert _busy_percent(_Sample(0, 10, 100, 2), _Sample(1, 10, 100, 2)) is None
    assert _busy_percent(_Sample(0, 10, 100, 2), _Sample(1, 15, 110, 4)) is None


def test_a_container_of_the_second_version_limits_memory(tmp_path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/kubepods/pod7/notebook\n",
            "sys/fs/cgroup/kubepods/memory.max": "max\n",
            "sys/fs/cgroup/kubepods/memory.current": f"{9 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod7/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod7/memory.current": f"{5 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod7/memory.stat": f"anon 5\ninactive_file {2 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod7/notebook/memory.max": f"{16 * GIB}\n",
            "sys/fs/cgroup/kubepods/pod7/notebook/memory.current": f"{1 * GIB}\n",
        },
    )
    limit = memory_limit(RAM, root)
    assert limit is not None
    assert limit.limit_bytes == 8 * GIB
    assert limit.free_bytes == 5 * GIB


def test_a_container_that_sees_its_own_group_as_the_top(tmp_path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/0123\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {1 * GIB}\n",
        },
    )
    limit = memory_limit(RAM, root)
    assert limit is not None
    assert (limit.limit_bytes, limit.free_bytes) == (4 * GIB, 2 * GIB)


@pytest.mark.parametrize("text", ["max", "9223372036854771712"])
def test_no_limit_is_none(tmp_path, text):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": text,
            "sys/fs/cgroup/memory.current": "1",
        },
    )
    assert memory_limit(RAM, root) is None
    assert memory_limit(RAM, tmp_path / "no-such-folder") is None


def test_a_cpu_quota_counts_in_cores(tmp_path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/b/cpu.stat": "usage_usec 7\n",
        },
    )
    limit = cpu_limit(root)
    assert limit is not None
    assert (limit.cores, limit.used_seconds) == (1.5, 2.5)


def test_prices_are_matched_by_name_then_by_part_and_never_zero():
    h100 = Device("gpu", "NVIDIA H100 80GB HBM3", 0)
    cpu = Device("cpu", "AMD EPYC, 8 cores")
    assert _price(h100, {}) is None
    assert _price(h100, {"NVIDIA H100 80GB HBM3": 4.0, "h100": 2.0}) == 4.0
    assert _price(h100, {"h100": 2.0, "nvidia": 1.0, "H100 80gb": 3.0}) == 3.0
    assert _price(h100, {"cpu": 0.1, "A100": 1.0, "": 9.0}) is None
    assert _price(cpu, {"CPU": 0.1, "EPYC": 0.7}) == 0.1
    assert _price(cpu, {"H100": 2.0}) is None
    for nothing in (0, -1, float("nan"), float("inf")):
        assert _price(h100, {"h100": nothing}) is None


def test_processes_are_merged_and_sorted_by_memory():
    assert merge_processes(None, None) is None
    assert merge_processes([], None) == ()
    far = 2**22
    merged = merge_processes([(far + 1, 5), (far + 2, None)], [(far + 1, 9), (far + 3, 7)])
    assert merged is not None
    assert [(p.pid - far, p.memory_bytes) for p in merged] == [(1, 9), (3, 7), (2, None)]


def test_importing_the_room_imports_no_heavy_package():
    code = (
        "import sys, jupyter_llmops.gpus; "
        "print([m for m in ('psutil', 'pynvml', 'torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
