"""`python -m simulators.spotify --redirect-uri http://127.0.0.1:8000/spotify/auth/callback`."""

from __future__ import annotations

import argparse
import threading

from .simulator import SpotifySimulator


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Spotify on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--redirect-uri", action="append", default=[], help="what the app has registered; all if none")
    parser.add_argument("--user", action="append", default=[], help="somebody with Premium and a device, Studio")
    given = parser.parse_args()
    with SpotifySimulator(port=given.port) as simulator:
        simulator.accounts.app().redirect_uris.update(given.redirect_uri)
        for name in given.user or ["alice"]:
            simulator.user(name, devices=["Studio"])
        for name, value in simulator.settings().items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
