"""What the portal owes the tests of all modules."""

from __future__ import annotations

from typing import Any

PREFIX = "/portal"
SAMPLES: dict[str, Any] = {"POST /portal/links": lambda world: {"body": {"email": "pip@example.org"}}}
CARRIED = 0
