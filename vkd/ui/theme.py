"""Theme, style sheet and head of the page. System fonts and inline drawings: nothing is fetched."""

from pathlib import Path

from gradio.themes import Base, Default

STATIC = Path(__file__).parent / "static"
CSS = STATIC / "look.css"

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")


def script(name: str) -> str:
    """Reads a script of the folder `static`."""
    return (STATIC / name).read_text(encoding="utf-8")


HEAD = f"""<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<script>{script("paste.js")}</script>"""


def theme() -> Base:
    """Builds Gradio's default theme in one hue, with system fonts."""
    return Default(
        primary_hue="cyan",
        secondary_hue="cyan",
        neutral_hue="stone",
        radius_size="md",
        spacing_size="md",
        font=_SANS,
        font_mono=_MONO,
    ).set(
        # Text needs 4.5:1, what shows a state 3:1.
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_500",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_500",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="#ffffff",
        link_text_color="*primary_800",
        link_text_color_dark="*primary_300",
    )
