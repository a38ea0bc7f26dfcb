"""The app: builds the page of all tabs, and serves it (`vkd app`, `python app.py`)."""

import os

# Before gradio and huggingface_hub are imported: afterwards these are not read any more.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import argparse
import atexit
import importlib.util
import ipaddress
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from vkd.io.errors import VKDError
from vkd.ui import components, errors, guard, inputs, limits, mode, theme
from vkd.ui.evaluate import tab as evaluate
from vkd.ui.explain import actions as explain_actions
from vkd.ui.explain import tab as explain
from vkd.ui.hub import tab as hub
from vkd.ui.retrieve import tab as retrieve
from vkd.ui.state import AppPaths
from vkd.ui.train import tab as train

_BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints"
ON_SPACE = os.environ.get("SYSTEM") == "spaces"


class PageCompression(GZipMiddleware):
    """ASGI middleware that compresses the page itself, which Gradio's own compression leaves out."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["path"] == "/"
        await (super().__call__ if page else self.app)(scope, receive, send)


TABS = {"Retrieve": retrieve, "Explain": explain, "Train": train, "Evaluate": evaluate, "Hub": hub}


def build(checkpoints: Path, gallery: Path | None = None) -> gr.Blocks:
    """Builds the page: its header and one tab after the other."""
    paths = AppPaths.of(checkpoints, gallery)
    with gr.Blocks(
        title="VKD", fill_width=True, analytics_enabled=False, delete_cache=limits.delete_cache()
    ) as page:
        components.header()
        for title, tab in TABS.items():
            with gr.Tab(title) as opened:
                tab.build(paths, page, [page.load, opened.select])
    return page.queue(max_size=32)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def credentials() -> tuple[str, str] | None:
    """Reads name and password from VKD_AUTH=name:password; None without."""
    # An argument would be visible in the list of processes.
    name, colon, password = os.environ.get("VKD_AUTH", "").partition(":")
    return (name, password) if name and colon and password else None


def launch(page: gr.Blocks, checkpoints: Path, host: str, port: int | None, mcp: bool = False) -> str:
    """Serves the page and returns its address; with `mcp` its endpoints are also MCP tools.

    Raises VKDError for a host that others can reach without a password, and where MCP's package is missing.
    """
    if mcp and importlib.util.find_spec("mcp") is None:
        raise VKDError("--mcp needs one more package: pip install 'gradio[mcp]', or install vkd[mcp].")
    if not is_loopback(host) and not ON_SPACE and credentials() is None:
        raise VKDError(
            f"Others could reach {host} and no password is set: use 127.0.0.1 or set VKD_AUTH=name:password."
        )
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        auth=credentials(),
        theme=theme.theme(),
        css_paths=[theme.CSS, train.CSS, evaluate.CSS, hub.CSS],
        head=theme.HEAD,
        i18n=gr.I18n(en={"upload_text.drop_gallery": "Drop one or more crops of the same person"}),
        footer_links=["api"],
        allowed_paths=[str(AppPaths.of(checkpoints).queries)],
        show_error=False,
        share=False,
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=mcp,
        **limits.launch_arguments(guard.middleware(host, ON_SPACE), Middleware(PageCompression)),
        prevent_thread_lock=True,
        quiet=True,
    )
    return address


def use_own_uploads() -> None:
    """Sets GRADIO_TEMP_DIR, unless it is set, to a folder of this process alone, removed at its end."""
    # Gradio's default is one folder for all apps of the machine, and each app deletes what is old in it.
    if not os.environ.get("GRADIO_TEMP_DIR"):
        os.environ["GRADIO_TEMP_DIR"] = folder = tempfile.mkdtemp(prefix="vkd-uploads-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


WARM_SECONDS = 4.0
"""Delay before the models are loaded: the first visitor's page comes first."""


def default_checkpoints() -> Path:
    """Returns the checkpoints of the repository, or outside a clone the folder `checkpoints`."""
    return _BUNDLED if _BUNDLED.is_dir() else Path("checkpoints")


def warm(paths: AppPaths) -> None:
    """Loads what the tabs open with, before the first visitor needs it."""
    try:
        inputs.warm(paths)
        explain_actions.warm(paths)
    except Exception:  # a damaged checkpoint is reported to the person who uses it
        errors.LOG.warning("The models could not be loaded in advance.", exc_info=True)


def main(arguments: list[str] | None = None) -> None:
    """Parses the arguments, opens the app and keeps it open until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="vkd app", description="Open VKD in the browser: retrieve, explain, train, evaluate, Hub."
    )
    parser.add_argument("--host", default="0.0.0.0" if ON_SPACE else "127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on (the first free one from 7860)")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=default_checkpoints(),
        help="folder of checkpoints (the bundled ones, else ./checkpoints)",
    )
    parser.add_argument("--gallery", type=Path, help="gallery folder to open with (the bundled one)")
    parser.add_argument("--mcp", action="store_true", help="also serve the endpoints as MCP tools")
    chosen = parser.parse_args(arguments)
    if chosen.checkpoints == default_checkpoints():
        chosen.checkpoints.mkdir(exist_ok=True)
    for folder in filter(None, (chosen.checkpoints, chosen.gallery)):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    for note in mode.NOTES:
        print(note, flush=True)
    use_own_uploads()
    if threading.current_thread() is threading.main_thread():  # SIGTERM ends the app as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        page = build(chosen.checkpoints, chosen.gallery)
        address = launch(page, chosen.checkpoints, chosen.host, chosen.port, chosen.mcp)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"VKD is open at {address}", flush=True)
    timer = threading.Timer(WARM_SECONDS, warm, (AppPaths.of(chosen.checkpoints, chosen.gallery),))
    timer.daemon = True
    timer.start()
    page.block_thread()


if __name__ == "__main__":
    main()
