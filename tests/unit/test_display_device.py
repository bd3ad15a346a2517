"""The device table: what is not known is a dash with its reason, never a 0; nothing is interpreted as HTML."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime

import pytest

from jupyter_llmops.display.device import device_html, device_text
from jupyter_llmops.records.gpu import Device, DeviceInventory, GpuProcess

GIB = 1024**3
CPU = Device(
    "cpu",
    "AMD EPYC, 8 cores",
    memory_total_bytes=64 * GIB,
    memory_free_bytes=48 * GIB,
    utilization_percent=12.5,
)
GPU = Device(
    "gpu", "NVIDIA H100", 0, "GPU-1", 80 * GIB, 8 * GIB, 97.0, (GpuProcess(4711, 70 * GIB, "python"),)
)


def inventory(*gpus: Device, cpu: Device = CPU, status: str = "ok", message: str = "") -> DeviceInventory:
    return DeviceInventory(
        "lab-7", (*gpus, cpu), status, message, "570.1" if status == "ok" else "", datetime.now(UTC)
    )


def test_text_columns_are_aligned():
    lines = device_text(
        inventory(GPU, dataclasses.replace(GPU, index=1, name="A much longer name"))
    ).splitlines()
    table = lines[:5]
    assert lines[-1] == "NVIDIA driver 570.1"
    assert len({len(line) for line in table}) == 1
    assert "process 4711 python: 70.0 GiB" in device_text(inventory(GPU))


def test_unknown_values_are_dashes_with_the_reason_on_hover():
    blind = Device("gpu", "vGPU", 0, problem="utilization: not told by a virtual GPU (vGPU); memory: refused")
    page = device_html(inventory(blind))
    row = page[page.index("vGPU") : page.index("AMD")]
    assert row.count("—") >= 3
    assert 'title="utilization: not told by a virtual GPU (vGPU)"' in row
    assert 'title="memory: refused"' in row
    assert "0 %" not in row
    assert "0 B" not in row
    assert "width:0" not in row
    assert blind.problem in device_text(inventory(blind))


def test_the_bars_are_as_long_as_the_figures():
    page = device_html(inventory(GPU))
    assert re.findall(r"width:([\d.]+)%", page) == ["90.0", "97.0", "25.0", "12.5"]


@pytest.mark.parametrize("status", ["missing", "mismatched", "refused", "error"])
def test_a_driver_fault_is_a_row_in_words(status):
    broken = inventory(status=status, message="The driver <is> unwell; reboot.")
    page = device_html(broken)
    assert "The driver &lt;is&gt; unwell; reboot." in page
    assert page.index("unwell") < page.index("AMD EPYC")
    assert "The driver <is> unwell; reboot." in device_text(broken)


def test_a_driver_without_a_gpu_is_said():
    assert "names no GPU" in device_html(inventory())
    assert "names no GPU" in device_text(inventory())
    assert "names no GPU" not in device_html(inventory(GPU))


def test_the_price_column_is_there_only_with_a_price():
    assert "USD/h" not in device_html(inventory(GPU)) + device_text(inventory(GPU))
    priced = inventory(dataclasses.replace(GPU, price_per_hour=2.5))
    assert "USD/h" in device_html(priced)
    assert "2.50" in device_text(priced)
    cpu_row = device_html(priced).split("AMD EPYC")[1]
    assert "no price is configured" in cpu_row
    assert "0.00" not in device_html(priced) + device_text(priced)


def test_names_from_outside_are_escaped():
    evil = dataclasses.replace(
        GPU, name="<script>alert(1)</script>", processes=(GpuProcess(1, None, "<b>x</b>"),), problem='"><i>'
    )
    page = device_html(inventory(evil))
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<i>" not in page
