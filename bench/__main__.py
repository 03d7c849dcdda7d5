"""`make bench`: every benchmark, one after the other."""

from bench import chaos, claims, command_roundtrip, startup

if __name__ == "__main__":
    startup.main()
    command_roundtrip.main()
    claims.main()
    chaos.main()
