"""`make bench`: every benchmark, one after the other."""

from bench import chaos, command_roundtrip, hung_target, startup

if __name__ == "__main__":
    startup.main()
    command_roundtrip.main()
    hung_target.main()
    chaos.main()
