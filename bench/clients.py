"""MCP clients nobody here wrote, against `mlops-crew serve`: what a model behind each of them gets to read.

Run: python bench/clients.py [--python NAME=INTERPRETER ...] [--node FOLDER]

Each client starts the server itself, over standard input and output, in a project of its own; lists the tools;
versions a small file (`dvc_version_data`, whose result holds a hash and paths); and calls with an argument too many.
The table says how many tools it saw, whether every value of the result reached what it hands to its model, and whether
the error did, with what is valid. A client is taken from the interpreter named for it, by default this one; what is
not installed there is said, and how to get it:

    python -m venv clients/langchain && clients/langchain/bin/pip install langchain-mcp-adapters
    npm install --prefix clients/node @modelcontextprotocol/sdk @modelcontextprotocol/inspector
    python bench/clients.py --python langchain=clients/langchain/bin/python --node clients/node

Not applicable: clients that only reach servers on the public internet (hosted connectors), and the old transport sse,
which `serve` does not offer. Desktop clients are not driven here: they want a screen. bench/conformance.py runs the
protocol's own test suite.

Exits with 1 when an installed client misses something.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT_S = 300


@dataclass(frozen=True)
class Client:
    """What to install, the module (Python) or package (Node) that shows it is there, and a program that uses it.

    A program has `server` (command, args, env, cwd), `call` and `wrong` (tool, arguments), and prints with `told`.
    """

    package: str
    module: str
    program: str
    node: bool = False


CLIENTS = {
    "mcp": Client(
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
    "crewai": Client(
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
    "langchain": Client(
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
    "openai-agents": Client(
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
    "pydantic-ai": Client(
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
    "typescript": Client(
        "@modelcontextprotocol/sdk",
        "@modelcontextprotocol/sdk",
        """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const client = new Client({ name: "bench", version: "1" });
await client.connect(new StdioClientTransport({ ...server, stderr: "ignore" }));
const { tools } = await client.listTools();
const answers = [];
for (const [name, given] of [call, wrong]) answers.push(await client.callTool({ name, arguments: given }));
await client.close();
told("@modelcontextprotocol/sdk", tools.length, ...answers.map(read));
""",
        node=True,
    ),
    "inspector": Client(
        "@modelcontextprotocol/inspector",
        "@modelcontextprotocol/inspector",
        """
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";

const config = mkdtempSync(tmpdir() + "/inspector-") + "/mcp.json";
writeFileSync(config, JSON.stringify({ mcpServers: { crew: server } }));
const ask = (...more) => {
    const cli = "node_modules/@modelcontextprotocol/inspector/cli/build/cli.js";
    return JSON.parse(execFileSync(process.execPath, [cli, "--cli", "--config", config, "--server", "crew", ...more]));
};
const use = ([name, given]) =>
    ask("--method", "tools/call", "--tool-name", name,
        ...Object.entries(given).flatMap(([key, value]) => ["--tool-arg", `${key}=${JSON.stringify(value)}`]));
const { tools } = ask("--method", "tools/list");
told("@modelcontextprotocol/inspector", tools.length, read(use(call)), read(use(wrong)));
""",
        node=True,
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

AROUND_IN_NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";

const [server, call, wrong] = JSON.parse(process.argv[1]);
const read = (result) => result.content.map((block) => block.text ?? "").join("\\n");
const told = (name, tools, right, refused) => {
    const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
    console.log("TOLD " + JSON.stringify({ version, tools, right, refused }));
};
"""


def missing(client: Client, python: str, node: Path | None) -> str:
    """How to get a client that is not installed; empty where it is."""
    if client.node:
        there = node is not None and (node / "node_modules" / client.module).is_dir()
        return "" if there else f"not installed; npm install {client.package}, then --node FOLDER"
    there = subprocess.run([python, "-c", f"import {client.module}"], capture_output=True, check=False).returncode == 0
    return "" if there else f"not installed; pip install {client.package}"


def drive(name: str, python: str, node: Path | None, folder: Path) -> dict[str, Any]:
    """What a client was told; `{"missing": ...}` where it is not installed, `{"broken": ...}` where it failed."""
    client = CLIENTS[name]
    if lacking := missing(client, python, node):
        return {"missing": lacking}
    project = folder / name
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
    command = [python, "-c", f"{AROUND}{client.program}\nasyncio.run(main())"]
    if client.node:  # what it imports is looked for from its working folder
        command = ["node", "--input-type=module", "-e", AROUND_IN_NODE + client.program]
    try:
        ended = subprocess.run(
            [*command, json.dumps(asked)],
            capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=node if client.node else project,
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
    parser.add_argument("--node", type=Path, metavar="FOLDER", help="with the node_modules of TypeScript clients")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (default: all)")
    given = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in given.python)
    wrong = False
    print("| client | version | tools seen | the result's values reach its model | an error reaches it |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for client in given.clients or CLIENTS:
            found = drive(client, pythons.get(client, sys.executable), given.node, Path(folder))
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
