"""Have one `handler(event, context)` answer WaddleBot wherever it runs.

    def handler(event, context):
        n = context.state.get("count", 0) + 1
        context.state.put("count", n)
        return f"Asked {n} times."

`event` is what was called (the project's docs/contracts.md, ModuleCall). A handler returns a text to say in chat, None
to say nothing, or a whole reply as a dictionary. On a fleet's own host nothing of this package is needed, because all
of it is there already. Elsewhere the platform calls an adapter of this package, which calls the handler that the
environment's WADDLEBOT_HANDLER names (`handler.handler` if it is not set):

* AWS Lambda: `waddlebot_sdk.aws_lambda.handler`
* OpenWhisk: `waddlebot_sdk.openwhisk.main`
* a webhook: `python -m waddlebot_sdk.webhook`, or `waddlebot_sdk.webhook.app` for a WSGI server
"""

from .context import Context, State, StateError
from .handlers import Handler, as_reply, load_handler

__all__ = ["Context", "Handler", "State", "StateError", "as_reply", "load_handler"]
