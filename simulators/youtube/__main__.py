"""`python -m simulators.youtube`: a YouTube in a process of its own."""

from __future__ import annotations

import argparse
import threading

from .simulator import YouTubeSimulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulators.youtube", description="A local YouTube on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast as life songs are over")
    given = parser.parse_args()
    with YouTubeSimulator(port=given.port, speed=given.speed) as simulator:
        simulator.add_some_songs()
        for name, value in simulator.settings().items():
            print(f"{name}={value}")
        print(flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
