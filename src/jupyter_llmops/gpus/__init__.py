"""What this machine computes with: its GPUs through NVML, its CPU and RAM through psutil."""

from __future__ import annotations

from jupyter_llmops.gpus.inventory import read_inventory

__all__ = ["read_inventory"]
