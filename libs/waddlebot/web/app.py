"""The WSGI app of a process: its modules loaded into py4web, and errors that speak the fleet's JSON."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import ombott
from py4web import request, response
from py4web.core import Reloader, wsgi

from ..base.errors import ConfigError
from ..base.manifest import modules_dir
from ..base.wire import to_json
from .endpoint import A_BUG, JSON_HEADERS, LARGEST_BODY_BYTES, plain_error
from .pages import find_look, prefers_html

PORTAL = "/portal"


def install_error_pages() -> None:
    """Make the server's own errors (unknown route, wrong method, bad path) speak the fleet's JSON, and in a browser the
    look of the pages that the address is below."""
    app = ombott.default_app()
    app.setup({"max_body_size": LARGEST_BODY_BYTES, "max_memfile_size": LARGEST_BODY_BYTES})

    def answer(err: Any) -> str | bytes:
        status = err.status_code
        wants_page = prefers_html(request.environ.get("HTTP_ACCEPT", ""))
        if status == 404 and request.path == "/" and request.method == "GET" and wants_page and find_look(PORTAL):
            # Who types the address of the fleet looks for the pages.
            response.status = 303
            response.headers.update({"Location": PORTAL, "Cache-Control": "no-store"})
            return ""
        look = find_look(request.path)
        if look is not None and wants_page:
            page = look.error(status)
            response.headers.update({"Content-Type": page.content_type, **page.headers})
            return page.body
        response.headers.update(JSON_HEADERS)
        messages = {
            404: f"There is nothing at {request.path[:200]}.",
            405: f"{request.method} is not served here.",
            413: f"At most {LARGEST_BODY_BYTES} bytes are taken.",
            500: A_BUG,
        }
        return to_json(plain_error(status, messages.get(status, "The request cannot be read.")))

    for status in (400, 404, 405, 413, 500):
        app.error_handlers[status] = answer


def create_app(*modules: str, apps_folder: Path) -> Any:
    """Load modules into py4web and return the WSGI app. A module that fails to load ends the process.

    py4web imports each module as `apps.<folder>` from one folder and writes a `.service` folder beside them, so the
    modules are linked into `apps_folder` and the checkout stays untouched.
    Raises: ConfigError with the reason of the first module that failed.
    """
    apps = apps_folder / "apps"
    apps.mkdir(parents=True, exist_ok=True)
    (apps / "__init__.py").touch()
    for name in modules:
        link = apps / name
        link.unlink(missing_ok=True)  # A home may have been used by another checkout before.
        link.symlink_to(modules_dir() / name)
    # py4web prints the traceback of a module that does not load; what matters of it goes into the ConfigError.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app = wsgi(
            apps_folder=str(apps),
            app_names=",".join(modules),
            yes=True,
            dashboard_mode="none",
            watch="off",
            logging_level=logging.WARNING,
            errorlog=":stderr",
        )
    for name in modules:
        if Reloader.ERRORS.get(name) or name not in Reloader.MODULES:
            raise ConfigError(_why_not_loaded(name))
    install_error_pages()
    return app


def _why_not_loaded(name: str) -> str:
    trace = (Reloader.ERRORS.get(name) or "its folder has no __init__.py").strip()
    known = re.search(r"^waddlebot\.base\.errors\.ConfigError: (.*)", trace, re.MULTILINE)
    return f"{name}: {known[1]}" if known else f"{name} does not load:\n{trace}"
