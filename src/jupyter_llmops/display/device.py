"""What a machine computes with, as text and as an HTML table."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_BORDER,
    COLOR_BRAND,
    COLOR_FAINT,
    COLOR_WARN,
    Html,
    bar,
    html,
    moment,
    size,
    status,
    text_table,
)
from jupyter_llmops.records.gpu import Device, DeviceInventory

_NEARLY_FULL = 0.9
_STATUS_WORDS = {
    "missing": "no driver",
    "mismatched": "driver mismatched",
    "refused": "driver refused",
    "error": "driver error",
}


def device_text(inventory: DeviceInventory) -> str:
    """Return the devices as an aligned table for a terminal, with the driver's state below."""
    priced = _priced(inventory)
    columns = ["GPU", "device", "free", "total", "used", "busy", "processes"]
    if priced:
        columns.append(f"{inventory.currency}/h")
    rows = []
    for device in inventory.devices:
        used = _used_fraction(device)
        row = [
            _index(device),
            device.name,
            size(device.memory_free_bytes),
            size(device.memory_total_bytes),
            ABSENT if used is None else f"{100 * used:.0f} %",
            _percent(device.utilization_percent),
            ABSENT if device.processes is None else str(len(device.processes)),
        ]
        rows.append([*row, _price(device)] if priced else row)
    lines = [text_table(columns, rows, numeric=range(2, len(columns)))]
    lines += [f"{_index(one)} {one.name}: {one.problem}" for one in inventory.devices if one.problem]
    lines += [
        f"GPU {_index(one)}, process {process.pid} {process.name}".rstrip()
        + f": {size(process.memory_bytes)}"
        for one in inventory.devices
        for process in one.processes or ()
    ]
    return "\n".join([*lines, _driver_line(inventory)])


def device_html(inventory: DeviceInventory) -> str:
    """Return the devices as a table with bars; why a value is missing is said on hover."""
    priced = _priced(inventory)
    columns = ["GPU", "Device", "Memory", "Utilization", "Processes"]
    if priced:
        columns.append(f"{inventory.currency}/h")
    head = "".join(_cell("th", name, right=name.endswith("/h")) for name in columns)
    body = "".join(_row(device, priced) for device in inventory.devices[:-1])
    if inventory.driver_status != "ok" or not body:
        body += _driver_row(inventory, len(columns))
    body += "".join(_row(device, priced) for device in inventory.devices[-1:])
    return (
        f'<table style="border-collapse:collapse;margin:4px 0;color:inherit"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
        f'<div style="color:{COLOR_FAINT};font-size:90%;padding:2px 10px">{_footer(inventory)}</div>'
    )


def _row(device: Device, priced: bool) -> str:
    cells = [
        _cell("td", _index(device)),
        _cell("td", _named(device)),
        _cell("td", _memory(device), title=_reason(device, "memory", device.memory_total_bytes)),
        _cell("td", _use(device), title=_reason(device, "utilization", device.utilization_percent)),
        _cell("td", _processes(device), title=_reason(device, "processes", device.processes)),
    ]
    if priced:
        cells.append(_cell("td", _price(device), right=True, title=_no_price(device)))
    return f"<tr>{''.join(cells)}</tr>"


def _driver_row(inventory: DeviceInventory, width: int) -> str:
    """Return the row that stands where the GPUs would: why there are none."""
    if inventory.driver_status == "ok":
        mark, message = status("warn", "no GPU"), "The NVIDIA driver answers and names no GPU."
    else:
        level = "warn" if inventory.driver_status == "missing" else "error"
        mark = status(level, _STATUS_WORDS[inventory.driver_status])
        message = inventory.driver_message
    return (
        f'<tr><td style="{_CELL};text-align:left">{ABSENT}</td>'
        f'<td colspan="{width - 1}" style="{_CELL};text-align:left;white-space:normal;max-width:44em">'
        f"<strong>{mark}</strong> · {html(message)}</td></tr>"
    )


_CELL = "padding:3px 10px;vertical-align:top;white-space:nowrap;font-variant-numeric:tabular-nums"


def _cell(tag: str, value: object, *, right: bool = False, title: str = "") -> str:
    edge = f";border-bottom:1px solid {COLOR_BORDER}" if tag == "th" else ""
    hover = f' title="{html(title)}"' if title else ""
    return (
        f'<{tag} style="{_CELL};text-align:{"right" if right else "left"}{edge}"{hover}>{html(value)}</{tag}>'
    )


def _named(device: Device) -> Html:
    """Return the device's name, marked when something about it is not known."""
    if not device.problem:
        return html(device.name)
    mark = f'<span style="color:{COLOR_WARN}" title="{html(device.problem)}">!</span>'
    lost = device.memory_total_bytes is None and device.utilization_percent is None
    note = f'<div style="color:{COLOR_FAINT};white-space:normal">{html(device.problem)}</div>' if lost else ""
    return Html(f"{html(device.name)} {mark}{note}")


def _memory(device: Device) -> Html:
    used = _used_fraction(device)
    if used is None:
        total = device.memory_total_bytes
        return html(ABSENT if total is None else f"{size(total)} in all")
    label = Html(
        f"{_right(size(device.memory_free_bytes), 4.2)} free of {_right(size(device.memory_total_bytes), 4.2)}"
    )
    return bar(used, label, color=COLOR_WARN if used >= _NEARLY_FULL else COLOR_BRAND)


def _use(device: Device) -> Html:
    percent = device.utilization_percent
    if percent is None:
        return html(ABSENT)
    return bar(percent / 100, _right(_percent(percent), 3), width_em=5)


def _right(text: str, width_em: float) -> Html:
    """Return a number that ends where those above and below it end."""
    return Html(
        f'<span style="display:inline-block;min-width:{width_em}em;text-align:right">{html(text)}</span>'
    )


def _processes(device: Device) -> Html:
    """Return how many processes there are; opening the number lists them."""
    if device.processes is None:
        return html(ABSENT)
    if not device.processes:
        return html("0")
    lines = "".join(
        f"<div>{process.pid} {html(process.name)} "
        f'<span style="color:{COLOR_FAINT}">{size(process.memory_bytes)}</span></div>'
        for process in device.processes
    )
    return Html(f"<details><summary>{len(device.processes)}</summary>{lines}</details>")


def _used_fraction(device: Device) -> float | None:
    total, free = device.memory_total_bytes, device.memory_free_bytes
    return None if not total or free is None else 1 - free / total


def _reason(device: Device, metric: str, value: object) -> str:
    """Return why a value is missing: the part of `problem` about it, else all of it."""
    if value is not None:
        return ""
    if device.kind == "cpu" and metric == "processes":
        return "only a GPU's processes are listed"
    parts = [part for part in device.problem.split("; ") if part.startswith(f"{metric}:")]
    return "; ".join(parts) or device.problem or "the driver does not tell"


def _index(device: Device) -> str:
    if device.kind == "cpu":
        return "CPU"
    return ABSENT if device.index is None else str(device.index)


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0f} %"


def _price(device: Device) -> str:
    return ABSENT if device.price_per_hour is None else f"{device.price_per_hour:.2f}"


def _no_price(device: Device) -> str:
    return "" if device.price_per_hour is not None else "no price is configured (LLMOps.price_per_hour)"


def _priced(inventory: DeviceInventory) -> bool:
    return any(device.price_per_hour is not None for device in inventory.devices)


def _driver_line(inventory: DeviceInventory) -> str:
    if inventory.driver_status != "ok":
        return inventory.driver_message
    if all(device.kind == "cpu" for device in inventory.devices):
        return f"The NVIDIA driver {inventory.driver_version} answers and names no GPU."
    return f"NVIDIA driver {inventory.driver_version}"


def _footer(inventory: DeviceInventory) -> str:
    driver = f"NVIDIA driver {html(inventory.driver_version)} · " if inventory.driver_version else ""
    return f"{driver}{html(inventory.site)} · measured {moment(inventory.measured_at)}"
