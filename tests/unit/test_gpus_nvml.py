"""The real pynvml over a small libnvidia-ml of our own: every driver fault becomes words, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GIB = 1024**3
NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, LOST, MISMATCH = 3, 4, 13, 15, 18

# Answers from FAKE_<question>[_<gpu>] in the environment: a number is the NVML error code to return.
LIBRARY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Rates;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } Process;
typedef struct { int gpu; int slot; } Handle;
static Handle gpus[8], slots[8][8];

static long number(const char *name, int gpu, long otherwise) {
    char key[128]; const char *value;
    snprintf(key, sizeof key, "FAKE_%s_%d", name, gpu);
    value = getenv(key);
    if (!value) { snprintf(key, sizeof key, "FAKE_%s", name); value = getenv(key); }
    return value ? atol(value) : otherwise;
}
static int code(const char *name, int gpu) { return (int)number(name, gpu, 0); }

int nvmlInitWithFlags(unsigned int f) { return code("INIT", -1); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int c) { return "made up"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int n) { snprintf(out, n, "570.86.15"); return code("VERSION", -1); }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = number("GPUS", -1, 0); return code("COUNT", -1); }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, Handle **h) {
    gpus[i].gpu = i; gpus[i].slot = -1; *h = &gpus[i]; return code("HANDLE", i);
}
int nvmlDeviceGetName(Handle *h, char *out, unsigned int n) {
    if (getenv("FAKE_NAME_BYTES")) { out[0] = (char)0xff; out[1] = 0; return 0; }
    if (h->slot >= 0) snprintf(out, n, "NVIDIA H100 MIG 1g.10gb"); else snprintf(out, n, "NVIDIA H100");
    return code("NAME", h->gpu);
}
int nvmlDeviceGetUUID(Handle *h, char *out, unsigned int n) {
    snprintf(out, n, "GPU-%d-%d", h->gpu, h->slot); return 0;
}
int nvmlDeviceGetMemoryInfo(Handle *h, Memory *m) {
    m->total = (h->slot >= 0 ? 10ULL : 80ULL) << 30; m->used = 8ULL << 30; m->free = m->total - m->used;
    if (getenv("FAKE_MEMORY_UNKNOWN")) m->total = m->free = m->used = ~0ULL;
    return code("MEMORY", h->gpu);
}
int nvmlDeviceGetUtilizationRates(Handle *h, Rates *r) {
    r->gpu = 37 + h->gpu; r->memory = 5;
    return h->slot >= 0 ? 3 : code("UTILIZATION", h->gpu);
}
static int fill(long pid, long long used, unsigned int *n, Process *out) {
    if (!pid) { *n = 0; return 0; }
    if (!out) { *n = 1; return 7; }
    memset(out, 0, sizeof *out); out[0].pid = pid; out[0].used = used; *n = 1; return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Handle *h, unsigned int *n, Process *out) {
    int c = code("PROCESSES", h->gpu);
    return c ? c : fill(number("COMPUTE_PID", h->gpu, 0), 6LL << 30, n, out);
}
int nvmlDeviceGetComputeRunningProcesses_v2(Handle *h, unsigned int *n, Process *out) {
    int c = code("PROCESSES_V2", h->gpu);
    return c ? c : fill(number("COMPUTE_PID", h->gpu, 0), 6LL << 30, n, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle *h, unsigned int *n, Process *out) {
    int c = code("PROCESSES", h->gpu);
    return c ? c : fill(number("GRAPHICS_PID", h->gpu, 0), number("GRAPHICS_MEMORY", h->gpu, 1024), n, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(Handle *h, unsigned int *n, Process *out) {
    return code("PROCESSES_V2", h->gpu) ? code("PROCESSES_V2", h->gpu) : fill(0, 0, n, out);
}
int nvmlDeviceGetVirtualizationMode(Handle *h, unsigned int *mode) { *mode = number("VIRTUAL", h->gpu, 0); return 0; }
int nvmlDeviceGetMigMode(Handle *h, unsigned int *now, unsigned int *later) {
    *now = *later = number("MIG", h->gpu, 0); return h->slot >= 0 ? 2 : 0;
}
int nvmlDeviceGetMaxMigDeviceCount(Handle *h, unsigned int *n) { *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(Handle *h, unsigned int i, Handle **out) {
    if ((long)i >= number("MIG_INSTANCES", h->gpu, 0)) return 6;
    slots[h->gpu][i].gpu = h->gpu; slots[h->gpu][i].slot = i; *out = &slots[h->gpu][i]; return 0;
}
"""

READ = """
import dataclasses, json
from jupyter_llmops.gpus import read_inventory
inventory = read_inventory("here", {"H100": 2.5, "NVIDIA H100": 3.0}, "USD")
print(json.dumps(dataclasses.asdict(inventory), default=str))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml")
    folder = tmp_path_factory.mktemp("nvml")
    source = folder / "nvml.c"
    source.write_text(LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)], check=True
    )
    return folder


def read(library: Path, **answers: object) -> dict:
    """Read the inventory in a fresh process, in which the stand-in gives `answers`."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(library))
    environment.update({f"FAKE_{name}": str(value) for name, value in answers.items()})
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def test_two_gpus_with_their_memory_use_and_price(library):
    found = read(library, GPUS=2)
    assert found["driver_status"] == "ok"
    assert not found["driver_message"]
    assert found["driver_version"] == "570.86.15"
    first, second, host = found["devices"]
    assert (first["name"], first["index"], second["index"]) == ("NVIDIA H100", 0, 1)
    assert first["uuid"] != second["uuid"]
    assert first["memory_total_bytes"] == 80 * GIB
    assert first["memory_free_bytes"] == 72 * GIB
    assert (first["utilization_percent"], second["utilization_percent"]) == (37, 38)
    assert first["processes"] == []
    assert first["price_per_hour"] == 3.0
    assert not first["problem"]
    assert host["kind"] == "cpu"
    assert host["price_per_hour"] is None


def test_a_process_in_both_lists_counts_once_with_its_name(library):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        found = read(
            library, GPUS=2, COMPUTE_PID_0=other.pid, GRAPHICS_PID_0=other.pid, GRAPHICS_PID_1=2**22 + 7
        )
        other.communicate(b"\n")
    (shared,), (gone,) = (device["processes"] for device in found["devices"][:2])
    assert shared["pid"] == other.pid
    assert shared["memory_bytes"] == 6 * GIB
    # In a container the number may be another process's: then no name is better than a wrong one.
    assert shared["name"] == "" or shared["name"].startswith("python")
    assert gone == {"pid": 2**22 + 7, "memory_bytes": 1024, "name": ""}


def test_memory_that_the_driver_does_not_know_is_none(library):
    found = read(library, GPUS=1, GRAPHICS_PID=2**22 + 7, GRAPHICS_MEMORY=-1)
    assert found["devices"][0]["processes"][0]["memory_bytes"] is None


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (MISMATCH, "mismatched", "kernel module and library differ"),
        (NO_PERMISSION, "refused", "refuses"),
        (2, "error", "NVML error 2"),
        (9, "missing", "not loaded"),
        (LOST, "error", "fallen off the bus"),
        (1, "error", "shut down"),
        (NOT_SUPPORTED, "error", "vGPU"),
        (999, "error", "Unknown Error"),
        (4242, "error", "NVML error 4242"),
    ],
)
def test_each_fault_of_the_driver_is_said_in_words(library, code, status, words):
    found = read(library, INIT=code)
    assert found["driver_status"] == status
    assert words in found["driver_message"]
    assert [device["kind"] for device in found["devices"]] == ["cpu"]


def test_a_driver_that_opens_and_then_fails(library):
    found = read(library, GPUS=2, COUNT=NO_PERMISSION)
    assert found["driver_status"] == "refused"
    assert found["driver_version"] == "570.86.15"
    assert len(found["devices"]) == 1


def test_a_lost_gpu_keeps_its_row_and_the_others_their_values(library):
    lost, healthy, _ = read(library, GPUS=2, HANDLE_0=LOST)["devices"]
    assert lost["name"] == "GPU 0"
    assert lost["memory_total_bytes"] is None
    assert "fallen off the bus" in lost["problem"]
    assert healthy["memory_total_bytes"] == 80 * GIB
    assert not healthy["problem"]


def test_what_a_gpu_does_not_tell_is_none_with_the_reason(library):
    device = read(library, GPUS=1, UTILIZATION=NOT_SUPPORTED)["devices"][0]
    assert device["utilization_percent"] is None
    assert device["problem"] == "utilization: not supported by this GPU"
    assert device["memory_free_bytes"] == 72 * GIB
    device = read(library, GPUS=1, MEMORY=NOT_SUPPORTED)["devices"][0]
    assert device["memory_total_bytes"] is None
    assert device["memory_free_bytes"] is None
    assert device["utilization_percent"] == 37
    device = read(library, GPUS=1, PROCESSES=NO_PERMISSION, PROCESSES_V2=NO_PERMISSION)["devices"][0]
    assert device["processes"] is None
    assert device["problem"] == "processes: this user may not read it"


def test_memory_of_all_ones_is_not_known(library):
    device = read(library, GPUS=1, MEMORY_UNKNOWN=1)["devices"][0]
    assert device["memory_total_bytes"] is None
    assert device["memory_free_bytes"] is None


def test_a_virtual_gpu_says_that_it_is_one(library):
    device = read(library, GPUS=1, UTILIZATION=NOT_SUPPORTED, VIRTUAL=2)["devices"][0]
    assert "vGPU" in device["problem"]


def test_a_name_that_is_no_text_is_replaced(library):
    device = read(library, GPUS=1, NAME_BYTES=1)["devices"][0]
    assert device["name"] == "GPU 0"
    assert device["problem"].startswith("name:")
    assert device["memory_total_bytes"] == 80 * GIB


def test_an_older_driver_answers_through_the_older_function(library):
    device = read(library, GPUS=1, PROCESSES=FUNCTION_NOT_FOUND, COMPUTE_PID=2**22 + 7)["devices"][0]
    assert [process["pid"] for process in device["processes"]] == [2**22 + 7]
    assert not device["problem"]


def test_mig_instances_stand_in_place_of_the_partitioned_gpu(library):
    *instances, whole, _ = read(library, GPUS=2, MIG_0=1, MIG_INSTANCES_0=2)["devices"]
    assert [one["name"] for one in instances] == ["NVIDIA H100 MIG 1g.10gb"] * 2
    assert {one["index"] for one in instances} == {0}
    assert len({one["uuid"] for one in instances}) == 2
    assert instances[0]["memory_total_bytes"] == 10 * GIB
    assert instances[0]["utilization_percent"] is None
    assert instances[0]["problem"].startswith("utilization:")
    assert whole["index"] == 1


def test_mig_without_an_instance_says_that_nothing_can_run(library):
    device = read(library, GPUS=1, MIG=1)["devices"][0]
    assert "no instance" in device["problem"]
    assert device["memory_free_bytes"] is None


def test_without_a_library_the_driver_is_missing(tmp_path):
    if subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout.count(
        "libnvidia-ml.so.1"
    ):
        pytest.skip("this machine has an NVIDIA driver")
    found = read(tmp_path)
    assert found["driver_status"] == "missing"
    assert "No NVIDIA driver on this machine" in found["driver_message"]
    assert [device["kind"] for device in found["devices"]] == ["cpu"]
