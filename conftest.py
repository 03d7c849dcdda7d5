pytest_plugins = ["waddlebot.testing.plugin"]
