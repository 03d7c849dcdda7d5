"""Ask a process of this container how it is: `python -m waddlebot.fleet.probe /router/health`, or a whole URL.

The base image has no other client. It ends with 1, and says why, unless the answer is 200.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 2


def main(where: str) -> int:
    url = f"http://127.0.0.1:{os.environ.get('WADDLEBOT_PORT', '8000')}{where}" if where.startswith("/") else where
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):  # noqa: S310 - the image's own address
            return 0
    except urllib.error.HTTPError as err:
        why = f"{err.code} {err.read(300).decode(errors='replace')}"
    except (OSError, ValueError) as err:
        why = str(err)
    print(f"probe: {url}: {why}", file=sys.stderr)  # noqa: T201 - the engine keeps it with the container's health
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
