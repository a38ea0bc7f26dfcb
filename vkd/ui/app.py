"""Opens the app: python app.py [--host HOST] [--port PORT] [--checkpoints FOLDER] [--gallery FOLDER] [--mcp]

Without arguments it opens what ships, for this machine only.
"""

import os

# Before gradio and huggingface_hub are imported: afterwards these are not read any more.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import argparse
import importlib.util
import ipaddress
import threading
from pathlib import Path

import gradio as gr

from vkd.io.errors import VKDError
from vkd.ui import components, errors, guard, inputs, limits, mode, theme
from vkd.ui.evaluate import tab as evaluate
from vkd.ui.explain import actions as explain_actions
from vkd.ui.explain import tab as explain
from vkd.ui.hub import tab as hub
from vkd.ui.retrieve import tab as retrieve
from vkd.ui.state import AppPaths
from vkd.ui.train import tab as train

ROOT = Path(__file__).resolve().parents[2]
ON_SPACE = os.environ.get("SYSTEM") == "spaces"


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
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def credentials() -> tuple[str, str] | None:
    """Name and password from VKD_AUTH=name:password (an argument would be seen in the list of processes)."""
    name, colon, password = os.environ.get("VKD_AUTH", "").partition(":")
    return (name, password) if name and colon and password else None


def launch(page: gr.Blocks, checkpoints: Path, host: str, port: int | None, mcp: bool = False) -> str:
    """Serve the page and return its address; with `mcp` its endpoints are tools for programs, too.

    Raises ValueError for an open door without a lock, and where `mcp` lacks its package.
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
        footer_links=["api"],
        allowed_paths=[str(AppPaths.of(checkpoints).queries)],
        show_error=False,
        share=False,
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=mcp,
        **limits.launch_arguments(guard.middleware(host, ON_SPACE)),
        prevent_thread_lock=True,
        quiet=True,
    )
    return address


WARM_SECONDS = 4.0
"""Between opening and loading the networks: the first visitor's page comes before what it will ask for."""


def warm(paths: AppPaths) -> None:
    """Load what the tabs open with, while the first visitor is still looking at the page."""
    try:
        inputs.warm(paths)
        explain_actions.warm(paths)
    except Exception:  # a damaged checkpoint is told to the person who asks for it
        errors.LOG.warning("The networks could not be loaded beforehand.", exc_info=True)


def main(arguments: list[str] | None = None) -> None:
    """Open the app and keep it open until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="vkd app", description="VKD in the browser: retrieve and explain with a teacher and its student."
    )
    parser.add_argument("--host", default="0.0.0.0" if ON_SPACE else "127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on (the first free one from 7860)")
    parser.add_argument(
        "--checkpoints", type=Path, default=ROOT / "checkpoints", help="folder of checkpoint folders"
    )
    parser.add_argument("--gallery", type=Path, help="gallery folder to open with (the shipped one)")
    parser.add_argument(
        "--mcp", action="store_true", help="offer the endpoints to programs that speak MCP, too"
    )
    chosen = parser.parse_args(arguments)
    for folder in filter(None, (chosen.checkpoints, chosen.gallery)):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    for note in mode.NOTES:
        print(note, flush=True)
    try:
        page = build(chosen.checkpoints, chosen.gallery)
        address = launch(page, chosen.checkpoints, chosen.host, chosen.port, chosen.mcp)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"VKD is open at {address}", flush=True)
    paths = AppPaths.of(chosen.checkpoints, chosen.gallery)
    later = threading.Timer(WARM_SECONDS, warm, (paths,))
    later.daemon = True
    later.start()
    page.block_thread()


if __name__ == "__main__":
    main()
