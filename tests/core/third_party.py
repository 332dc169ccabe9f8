"""Somebody else's MCP server: results without an envelope, several content blocks, and errors."""

from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

server: Server[Any, Any] = Server("other")
ANY: dict[str, Any] = {"type": "object"}
NUMBER: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    names = ["blocks", "typed", "broken_promise", "fails", "write"]
    return [
        types.Tool(
            name=name,
            description=f"Tool {name}",
            inputSchema=ANY,
            outputSchema=NUMBER if name in ("typed", "broken_promise") else None,
        )
        for name in names
    ]


@server.call_tool(validate_input=False)
async def call_tool(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    def text(value: str) -> types.TextContent:
        return types.TextContent(type="text", text=value)

    match name:
        case "blocks":
            image = types.ImageContent(type="image", data="aGk=", mimeType="image/png")
            return types.CallToolResult(content=[text("first"), image, text(f"last {sorted(arguments)}")])
        case "typed":
            return types.CallToolResult(content=[text("7")], structuredContent={"n": 7})
        case "broken_promise":
            return types.CallToolResult(content=[text("no number here")])
        case "fails":
            return types.CallToolResult(content=[text("quota"), text("exceeded")], isError=True)
        case _:
            return types.CallToolResult(content=[text("written")])


async def main() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
