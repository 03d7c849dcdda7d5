"""A local MCP server on loopback: the official SDK's, with a tool `chat` and one that nobody may call.

with MCPSimulator(token="…") as mcp:
    mcp.settings()  # the environment that points a fleet here
    mcp.script.say = lambda messages: "42"
"""

from .simulator import TOKEN, MCPSimulator

__all__ = ["TOKEN", "MCPSimulator"]
