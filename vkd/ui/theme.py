"""How the app looks: theme, style sheet, header. System fonts and inline drawings: nothing is fetched."""

from pathlib import Path

from gradio.themes import Base
from gradio.themes.utils import sizes
from gradio.themes.utils.colors import Color

CSS = Path(__file__).parent / "static" / "look.css"

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")

_PETROL = Color(
    "#ecf7f9", "#d2ecf0", "#a6d9e1", "#72c1ce", "#3da5b6", "#17899c", "#0b6b7c", "#0a5664", "#0b4550",
    "#0b3841", "#06232a", "petrol",
)  # fmt: skip
_STONE = Color(
    "#faf9f6", "#f3f1ec", "#e4e1d8", "#cfcbc0", "#a3a199", "#77787a", "#585c63", "#40454d", "#262b33",
    "#1a1e25", "#111419", "stone",
)  # fmt: skip

# Several views (frames of one subject) that meet in one point, the embedding.
_MARK = """<svg viewBox="0 0 40 32" width="40" height="32" aria-hidden="true" focusable="false">
<g fill="none" stroke="currentColor" stroke-width="1.6" opacity=".55">
<path d="M11 6 33 16M11 16h22M11 26 33 16"/></g>
<g class="vkd-mark-views"><rect x="1" y="1" width="7" height="9" rx="1.5"/>
<rect x="1" y="11.5" width="7" height="9" rx="1.5"/><rect x="1" y="22" width="7" height="9" rx="1.5"/></g>
<circle class="vkd-mark-point" cx="34" cy="16" r="4.5"/></svg>"""

HEADER = f"""<header class="vkd-header"><span class="vkd-mark">{_MARK}</span><h1>VKD</h1>
<p>One look at somebody, found again by a student that learned from many views.</p></header>"""

# A picture pasted anywhere goes into the field in view, into an empty one where there are two.
_PASTE = """
document.addEventListener('paste', (event) => {
  const files = [...(event.clipboardData?.files ?? [])].filter((file) => /^(image|video)\\//.test(file.type));
  const fields = [...document.querySelectorAll('.vkd-pictures')].filter((field) => field.offsetParent);
  const field = fields.find((one) => !one.querySelector('.thumbnail-item')) ?? fields[0];
  const input = field?.querySelector('input[type=file]');
  if (!files.length || !input) return;
  const given = new DataTransfer();
  files.forEach((file) => given.items.add(file));
  input.files = given.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
  event.preventDefault();
});
"""

HEAD = f"""<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<script>{_PASTE}</script>"""


def theme() -> Base:
    """Paper and ink with one accent, in light and dark."""
    return Base(
        primary_hue=_PETROL,
        secondary_hue=_PETROL,
        neutral_hue=_STONE,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        body_text_color="#1b1f24",
        body_text_color_dark="#e9e7e1",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_900",
        block_background_fill="#ffffff",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_border_width="1px",
        block_shadow="none",
        block_label_text_weight="600",
        block_title_text_weight="600",
        block_label_background_fill="*neutral_50",
        block_label_background_fill_dark="*neutral_800",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_width="1px",
        input_border_color="*neutral_400",
        input_border_color_dark="*neutral_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_large_text_weight="600",
        checkbox_label_background_fill="*neutral_50",
        checkbox_label_background_fill_dark="*neutral_950",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*neutral_800",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )
