"""`make bench`: every benchmark, one after the other."""

from bench import chaos, command_roundtrip, overlay_fanout, startup

if __name__ == "__main__":
    startup.main()
    command_roundtrip.main()
    overlay_fanout.main()
    chaos.main()
