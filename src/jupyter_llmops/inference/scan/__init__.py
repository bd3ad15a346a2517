"""Everything that finds and describes models without ever running or unpickling them."""

from jupyter_llmops.inference.scan.finding import describe
from jupyter_llmops.inference.scan.places import scan
from jupyter_llmops.inference.scan.reading import Reading

__all__ = ["Reading", "describe", "scan"]
