"""Live curves in the page: plotly's own script, served from this machine, fed with new points only.

`gr.Plot` draws a figure anew at each update and loses the reader's zoom; here the page keeps the points and
`Plotly.react` keeps the zoom.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

SCRIPT = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
_JS = Path(__file__).parent / "static" / "curves.js"
_EMPTY = '<div class="vkd-curves vkd-early"></div>'


def component(message: dict[str, Any] | None, **common: Any) -> gr.HTML:
    """The place of the curves; its value is a message of `watch.news`."""
    gr.set_static_paths([SCRIPT])
    return gr.HTML(
        value=message,
        html_template=_EMPTY,
        js_on_load=_JS.read_text(encoding="utf-8"),
        head=f'<script src="gradio_api/file={SCRIPT}"></script>',
        **common,
    )
