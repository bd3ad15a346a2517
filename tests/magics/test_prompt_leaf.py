"""The leaf of a model call holds all that decided its answer, and all that came of it."""

from __future__ import annotations

from magic_shell import Notebook

REQUEST = {
    "model", "model_digest", "model_source", "tokenizer_digest", "engine", "engine_version", "quantization", "device",
    "parameters",
}  # fmt: skip
ANSWER = {"source", "finish_reason", "tokens_in", "tokens_out", "computed_microseconds", "determinism"}


def test_a_call_says_what_computed_it_and_a_hit_who_did(notebook: Notebook) -> None:
    first = notebook.run("%%prompt -t 0.5 --seed 3 --system 'Be brief.'\nOne two three")
    again = notebook.run("%%prompt -t 0.5 --seed 3 --system 'Be brief.'\nOne two three")
    leaves = [notebook.workspace.run(answer.run_id).leaf for answer in (first, again)]
    for leaf in leaves:
        assert leaf.keys() >= REQUEST | ANSWER
        assert leaf["tokenizer_digest"].startswith("sha256:")
        assert leaf["parameters"] == {"max_new_tokens": 256, "temperature": 0.5, "seed": 3, "extra": {}}
        assert {"template", "message.000.system", "message.001.user", "response"} <= leaf["digests"].keys()
    assert leaves[0].keys() & {"reused"} == set()
    assert leaves[1]["reused"].keys() == {"stored_by", "stored_at"}
    item = notebook.workspace.content(notebook.workspace.run(again.run_id))["kept_items"]
    assert len(item) == 64
    assert item not in str(leaves), "an unsalted digest of what was asked could be guessed from"
    assert (leaves[0]["source"], leaves[1]["source"]) == ("model", "cache")


def _cell(notebook: Notebook) -> dict:
    """Return the leaf of the newest cell."""
    return notebook.workspace.runs(kind="cell")[0].leaf


def test_a_cell_says_which_names_its_template_read_and_its_options_wrote(notebook: Notebook) -> None:
    notebook.run("topic = 'entropy'\nother = 1")
    notebook.run("%%prompt --var tone=dry --into answer\nSay what {{ topic }} is, {{ tone }}")
    names, values = _cell(notebook)["names"], _cell(notebook)["values"]
    assert names == {"read": ["topic"], "written": ["answer"]}
    assert values["topic"].startswith("sha256:")


def test_a_map_s_cell_names_the_frame_that_it_reads_and_changes(notebook: Notebook) -> None:
    notebook.run("import pandas as pd\nframe = pd.DataFrame({'review': ['a b', 'c d']})\nword = 'short'")
    notebook.run("%%prompt --map frame --column said\nBe {{ word }}: {{ review }}")
    assert _cell(notebook)["names"] == {"read": ["frame", "word"], "written": ["frame"]}
    notebook.run("%%prompt --map 'frame[:1]' --into rows\n{{ review }}")
    assert _cell(notebook)["names"] == {"read": ["frame"], "written": ["rows"]}
