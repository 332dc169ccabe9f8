"""Tools: one folder per integration, the gateway in `core`, and the shared modelling library in `modeling`.

Holds everything that touches a library or a remote system. Never imports `crew` or `tasks`.

`from tools import call_tool` gives the unified call.
"""

from tools.session import call_tool, call_tool_sync, open_gateway

__all__ = ["call_tool", "call_tool_sync", "open_gateway"]
