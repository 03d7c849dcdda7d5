"""`make bench`: every benchmark, one after the other."""

from bench import chaos, command_roundtrip, plain_chat, startup, string_rules

if __name__ == "__main__":
    startup.main()
    command_roundtrip.main()
    string_rules.main()
    plain_chat.main()
    chaos.main()
