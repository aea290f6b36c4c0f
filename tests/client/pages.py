"""Helpers: the example tool as it is started, and a browser that shows its page."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn

EXAMPLES = Path(__file__).parents[2] / "examples"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


def tool() -> ModuleType:
    """The module `examples/server.py`."""
    if "example_tool" not in sys.modules:
        spec = importlib.util.spec_from_file_location("example_tool", EXAMPLES / "server.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["example_tool"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["example_tool"]


@contextlib.contextmanager
def serving(gateway: str, token: str) -> Iterator[str]:
    """The tool's address; kim is at work."""
    application = tool().application(gateway, token, "kim")
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the tool does not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
