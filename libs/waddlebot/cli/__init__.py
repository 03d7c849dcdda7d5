"""The `waddlebot` command."""
