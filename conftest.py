from hypothesis import HealthCheck, settings

pytest_plugins = ["waddlebot.testing.plugin"]

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
