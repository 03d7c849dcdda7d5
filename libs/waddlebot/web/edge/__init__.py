"""The one front of a web process: uvicorn with limits of its own, bodies read before a thread is taken, pools by path,
streams, and py4web's WSGI app behind it (docs/adr/0026)."""

from .front import Edge
from .server import serve

__all__ = ["Edge", "serve"]
