"""A local OpenAI on loopback: chat completions, whole and streamed, and models, with OpenAI's own errors.

with OpenAISimulator() as openai:
    openai.settings()  # the environment that points a fleet here
    openai.script.say = lambda messages: "42"
    openai.script.fail_next(429, Retry_After="7200")
"""

from .simulator import KEY, OpenAISimulator

__all__ = ["KEY", "OpenAISimulator"]
