"""What everything stands on: errors, ids, settings, logs, wire types. Imports nothing else of ours."""
