"""The shared catalog: models, prompts and runs that every notebook and the sidebar find.

LanceDB tables in one folder. Nothing heavy is imported until the first read or write.
"""

from __future__ import annotations

from jupyter_llmops.catalog.catalog import Catalog

__all__ = ["Catalog"]
