"""MCP clients nobody here wrote, against `mlops-crew serve`: what a model behind each of them gets to read.

Run: python bench/clients.py [--python NAME=INTERPRETER ...]

Each client starts the server itself, over standard input and output, in a project of its own; lists the tools;
versions a small file (`dvc_version_data`, whose result holds a hash and paths); and calls with an argument too many.
The table says how many tools it saw, whether every value of the result reached what it hands to its model, and whether
the error did, with what is valid. A client is taken from the interpreter named for it, by default this one; what is
not installed there is said, and how to get it:

    python -m venv clients/langchain && clients/langchain/bin/pip install langchain-mcp-adapters
    python bench/clients.py --python langchain=clients/langchain/bin/python

Not applicable: clients that only reach servers on the public internet (hosted connectors), and the old transport sse,
which `serve` does not offer. Desktop clients and the TypeScript SDK are not driven here: they want a screen or Node.

Exits with 1 when an installed client misses something.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT_S = 300
# Client -> what to install, the module that shows it is there, and the program that prints {version, tools, ok, error}.
# Each program has `server` (command, args, env, cwd), `call` and `wrong` (tool, arguments), and prints with `told`.
CLIENTS: dict[str, tuple[str, str, str]] = {
    "mcp": (
        "mcp<2",
        "mcp.client.stdio",
        """
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    async with stdio_client(StdioServerParameters(**server), errlog=quiet) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            answers = [(await session.call_tool(*asked)).content for asked in (call, wrong)]
            told("mcp", len(tools), *answers)
""",
    ),
    "crewai": (
        "crewai-tools[mcp]",
        "crewai_tools",
        """
import asyncio
from crewai_tools import MCPServerAdapter
from mcp import StdioServerParameters

def use():
    with MCPServerAdapter(StdioServerParameters(**server), connect_timeout=120) as tools:
        named = {tool.name: tool for tool in tools}
        told("crewai-tools", len(tools), *(answer(named, *asked) for asked in (call, wrong)))

def answer(named, name, arguments):
    try:
        return named[name].run(**arguments)
    except Exception as error:
        return str(error)

async def main():
    await asyncio.to_thread(use)
""",
    ),
    "langchain": (
        "langchain-mcp-adapters",
        "langchain_mcp_adapters.client",
        """
from langchain_mcp_adapters.client import MultiServerMCPClient

async def main():
    client = MultiServerMCPClient({"crew": {"transport": "stdio", **server}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    answers = []
    for name, arguments in (call, wrong):
        try:
            answers.append(await tools[name].ainvoke(arguments))
        except Exception as error:
            answers.append(str(error))
    told("langchain-mcp-adapters", len(tools), *answers)
""",
    ),
    "openai-agents": (
        "openai-agents",
        "agents.mcp",
        """
from agents.mcp import MCPServerStdio

async def main():
    async with MCPServerStdio(params=server, client_session_timeout_seconds=120) as crew:
        tools = await crew.list_tools()
        answers = [(await crew.call_tool(*asked)).content for asked in (call, wrong)]
        told("openai-agents", len(tools), *answers)
""",
    ),
    "pydantic-ai": (
        "pydantic-ai-slim[mcp]",
        "pydantic_ai.mcp",
        """
from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset

async def main():
    crew = MCPToolset(StdioTransport(**server), init_timeout=120, read_timeout=120)
    async with crew:
        tools = await crew.list_tools()
        answers = []
        for asked in (call, wrong):
            try:
                answers.append(await crew.direct_call_tool(*asked))
            except Exception as error:
                answers.append(str(error))
        told("pydantic-ai-slim", len(tools), *answers)
""",
    ),
}
AROUND = """
import asyncio, importlib.metadata, json, os, sys
server, call, wrong = json.loads(sys.argv[1])
quiet = open(os.devnull, "w")

def told(distribution, tools, right, refused):
    found = {"version": importlib.metadata.version(distribution), "tools": tools}
    print("TOLD " + json.dumps({**found, "right": str(right), "refused": str(refused)}), flush=True)
"""


def drive(client: str, python: str, folder: Path) -> dict[str, Any]:
    """What a client was told; `{"missing": ...}` where it is not installed, `{"broken": ...}` where it failed."""
    distribution, module, program = CLIENTS[client]
    there = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    if there.returncode:
        return {"missing": f"not installed; pip install {distribution}"}
    project = folder / client
    shutil.copytree(ROOT / "config", project / "config")
    data = project / "data" / "rows.csv"
    data.parent.mkdir()
    data.write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    env = {**os.environ, "MLOPS_PROJECT": str(project), "MLOPS_DATA_ROOTS": str(data.parent), "PYTHONPATH": str(ROOT)}
    (project / "config" / "goal.yaml").unlink()  # no goal: what it would bind is said by the client
    server = {"command": sys.executable, "args": ["-m", "crew.cli", "serve"], "env": env, "cwd": str(project)}
    asked = [
        server,
        ["dvc_version_data", {"paths": [str(data)]}],
        ["dvc_version_data", {"paths": [str(data)], "nope": 1}],
    ]
    try:
        ended = subprocess.run(
            [python, "-c", f"{AROUND}{program}\nasyncio.run(main())", json.dumps(asked)],
            capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=project,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"broken": f"no end within {LIMIT_S} s"}
    lines = [line for line in ended.stdout.splitlines() if line.startswith("TOLD ")]
    if not lines:
        return {"broken": " ".join(ended.stderr.split())[-300:]}
    found = json.loads(lines[-1].removeprefix("TOLD "))
    # A client may start the server anew for each call.
    journals = (project / ".mlops" / "runs").glob("*/journal.jsonl")
    records = [json.loads(line) for path in journals for line in path.read_text(encoding="utf-8").splitlines()]
    outcome = next(record for record in records if record["kind"] == "outcome" and record["status"] == "ok")
    lacking = [
        name for name, value in outcome["data"].items() if isinstance(value, str) and value not in found["right"]
    ]
    said = "nope" in found["refused"] and "message" in found["refused"]
    return {**found, "lacking": lacking, "said": said}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", default=[], metavar="NAME=INTERPRETER")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (default: all)")
    given = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in given.python)
    wrong = False
    print("| client | version | tools seen | the result's values reach its model | an error reaches it |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for client in given.clients or CLIENTS:
            found = drive(client, pythons.get(client, sys.executable), Path(folder))
            if "missing" in found:
                print(f"| {client} | {found['missing']} | | | |", flush=True)
                continue
            if "broken" in found:
                wrong = True
                print(f"| {client} | broken: {found['broken']} | | | |", flush=True)
                continue
            values = f"all but {', '.join(found['lacking'])}" if found["lacking"] else "all"
            said = "with what is valid" if found["said"] else f"no: {found['refused'][:200]}"
            wrong = wrong or bool(found["lacking"]) or not found["said"]
            print(f"| {client} | {found['version']} | {found['tools']} | {values} | {said} |", flush=True)
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
