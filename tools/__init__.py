"""Tools: one folder per integration, the gateway in `core`, and the shared modelling library in `modeling`.

Holds everything that touches a library or a remote system. Never imports `crew` or `tasks`.

`from tools import call_tool` gives the unified call.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.session import call_tool, call_tool_sync, open_gateway

__all__ = ["call_tool", "call_tool_sync", "open_gateway"]


def __getattr__(name: str) -> Any:
    """Import the session at its first use: a spec, or a worker on another machine, needs no MCP."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import tools.session

    return getattr(tools.session, name)
