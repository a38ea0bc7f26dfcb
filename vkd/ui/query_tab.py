"""Skeleton of the tabs that answer a query (Retrieve, Explain): form left, results right, JSON below."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from vkd.ui import components, html

Step = tuple[Any, Any]
"""HTML and JSON of an answer, or of a part of it."""


def request_key(inputs: Sequence[Any]) -> str:
    """Returns what is asked as text, to compare: a page reports one change more than once."""
    return repr([_files(value) if isinstance(value, list) else value for value in inputs])


def _files(value: list[Any]) -> list[Any]:
    return [entry[0] if isinstance(entry, list | tuple) else entry for entry in value]


@dataclass(frozen=True)
class QueryTab:
    """Differences between the two tabs; both take `paths` and the values of the form.

    answer: yields HTML and JSON, one step after the other.
    missing: returns the empty state while an input is missing, else "".
    """

    answer: Callable[..., Iterator[Step]]
    missing: Callable[..., str]
    error_title: str

    def answer_now(self, paths: Any, *inputs: Any) -> Iterator[tuple[Any, Any, str]]:
        """Answers the query; an error stands where the answer would be."""
        key = request_key(inputs)
        try:
            for page, data in self.answer(paths, *inputs):
                yield page, data, key
        except gr.Error as wrong:
            yield html.error_box(self.error_title, wrong.message), None, key

    def answer_change(self, paths: Any, before: str, *inputs: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Answers after a change of the form, once for each change."""
        if (key := request_key(inputs)) == before:
            yield gr.skip(), gr.skip(), gr.skip()
        elif todo := self.missing(paths, *inputs):
            yield todo, None, key
        else:
            yield from self.answer_now(paths, *inputs)


class Results(NamedTuple):
    """The right side of a tab; `key` holds the request that is answered."""

    answer: gr.HTML
    data: gr.JSON
    key: gr.State


class Save(NamedTuple):
    """A save button: its label, the callback that writes the file, and its endpoint."""

    label: str
    write: Callable[..., str]
    api_name: str


def results(
    inputs: list[Any], saves: Sequence[Save], *, value: str, label: str, css_class: str, script: str
) -> Results:
    """Adds the save row, the answer and the JSON accordion; `script` is the answer's `js_on_load`."""
    key = gr.State("")
    with gr.Column(elem_classes="vkd-results"):
        with gr.Row(elem_classes="vkd-save"):
            for save in saves:
                components.save_button(save.label, save.write, inputs, api_name=save.api_name)
        answer = gr.HTML(value, label=label, js_on_load=script, elem_classes=css_class)
        with gr.Accordion("JSON response", open=False, elem_classes="vkd-json"):
            data = gr.JSON(label=label)
    return Results(answer, data, key)


def wire(
    tab: QueryTab,
    inputs: list[Any],
    results: Results,
    *,
    button: gr.Button,
    changes: Sequence[Any],
    example: Any,
) -> list[Any]:
    """Wires button, changes of the form and the event `example`, after which example images are in the form.

    Returns the events that compute, for a Cancel button.
    """
    outputs, state = list(results), inputs[0]
    changed = [state, results.key, *inputs[1:]]
    shared: dict[str, Any] = {**components.SHARED, **components.HIDDEN}
    return [
        button.click(tab.answer_now, inputs, outputs, **shared),
        example.success(tab.answer_change, changed, outputs, **shared),
        gr.on(list(changes), tab.answer_change, changed, outputs, trigger_mode="always_last", **shared),
    ]
