"""Test doubles and helpers that the fleet ships: real servers, and a bot to talk to. See plugin.py for the fixtures."""
