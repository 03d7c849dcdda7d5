"""A log that only one test writes, and that of its worker's fleet afterwards as it was before."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from unittest.mock import patch

from waddlebot.base import logs
from waddlebot.base.settings import Settings


@contextlib.contextmanager
def own_log() -> Iterator[None]:
    """Within it logging may be configured and stopped, and the environment changed for that."""
    root, environment, has_fleet = logging.getLogger(), dict(os.environ), logs._writer is not None
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        logs.stop_logging()
        root.handlers = handlers
        root.setLevel(level)
        if has_fleet:
            with patch.dict(os.environ, environment, clear=True):
                logs.configure_logging(Settings.load())
