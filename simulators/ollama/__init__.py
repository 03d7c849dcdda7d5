"""A local Ollama on loopback: /api/chat as newline-delimited JSON and /api/tags, with Ollama's own errors.

with OllamaSimulator() as ollama:
    ollama.settings()  # the environment that points a fleet here
    ollama.script.say = lambda messages: "42"
"""

from .simulator import OllamaSimulator

__all__ = ["OllamaSimulator"]
