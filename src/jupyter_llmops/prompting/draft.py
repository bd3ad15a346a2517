"""A prompt on its way: as it was typed, then rendered with its whole request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_llmops.prompting.context import ContextSource, ShownContext
from jupyter_llmops.prompting.messages import RenderedMessage
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.prompting.compilation import Load
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.prompt import Prompt, Variable


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """What somebody typed: templates, values and wishes, nothing rendered yet.

    Parameters
    ----------
    template, system : str
        Jinja2 sources of the user message, or of a chat, and of the system message (empty: none).
    variables : mapping
        Values by name; only those that the templates name are read.
    model : str
        Name of a model.
    parameters : GenerationParameters
        How to decode.
    quantization : str
        "auto", "nf4", "bf16" or "fp32".
    saved : Prompt or None
        The saved prompt that this is a run of.
    alias : str
        The alias by which it was found.
    declarations : tuple of Variable
        Types and defaults of variables.
    load : callable or None
        Finds the saved prompts that the templates include.
    context : ContextSource or None
        Finds the passages that the model is shown.
    output_schema : str
        JSON Schema in canonical form that the answer follows; empty for free text.
    exact : bool
        Whether it runs in the mode in which batches, padding and threads don't change a token.
    reuse : bool
        Whether a stored answer may be reused although it was sampled without a seed.
    truncate : bool
        Whether a prompt that is longer than the context is cut instead of refused.
    site : str
        Only engines of this site may answer; empty for any.
    backend : str
        Where it runs, as it was typed; empty for wherever the model is.
    """

    template: str
    variables: Mapping[str, Any]
    model: str
    parameters: GenerationParameters
    system: str = ""
    quantization: str = "auto"
    saved: Prompt | None = None
    alias: str = ""
    declarations: tuple[Variable, ...] = ()
    load: Load | None = None
    context: ContextSource | None = None
    output_schema: str = ""
    exact: bool = False
    reuse: bool = False
    truncate: bool = False
    site: str = ""
    backend: str = ""


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A rendered prompt with the whole request; nothing was computed yet.

    Parameters
    ----------
    rendered : tuple of RenderedMessage
        The messages, and who wrote which part of each.
    secrets : tuple of str
        Kinds of secrets that the messages seem to hold; such an answer is never cached.
    context : ShownContext or None
        The passages in them.
    cut : str
        What was cut to fit the context, one sentence.
    """

    draft: PromptDraft
    rendered: tuple[RenderedMessage, ...]
    request: InferenceRequest
    model: Model
    secrets: tuple[str, ...]
    context: ShownContext | None = None
    cut: str = ""
