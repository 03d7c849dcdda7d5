"""What a process that a test starts may inherit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

# Taken when pytest loads the plugin: later the fixtures write the settings of this process's own fleet into
# `os.environ`, and a fleet that is started beside it must not be told, say, where that one's overlays are.
AS_STARTED: Mapping[str, str] = MappingProxyType(dict(os.environ))
