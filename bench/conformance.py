"""The protocol's own conformance suite against `mlops-crew serve`, with a server of somebody else joined.

    npm install --prefix clients/node @modelcontextprotocol/conformance   # wants Node 22 or newer
    python bench/conformance.py clients/node

The suite calls tools with fixed names (`test_image_content` and the like). A small server named `test` offers them,
joined as any server of somebody else is: accepted by a person, with a block in the policy. So what is measured is what
`serve` makes of it on the way. Scenarios for what `serve` does not offer are listed with the reason, which is checked:
one that passes all the same fails the run, as does one of the others that does not.

Exits with 1 when a scenario ended otherwise than it should.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TOOLS = {
    "simple_text": "text", "image_content": "image", "audio_content": "audio", "embedded_resource": "resource",
    "multiple_content_types": "text image resource", "error_handling": "error",
}  # fmt: skip
NO_PROMPTS = "no prompts are offered"
NO_RESOURCES = "no resources are offered"
NO_QUESTIONS = "requests of a server of somebody else for the client's model or user are refused"
OWN_WORDS = "log messages of a server of somebody else are not passed on: they would read as ours"
NOT_APPLICABLE = {
    "completion-complete": "no prompts or resources are offered whose arguments could be completed",
    "tools-call-with-logging": OWN_WORDS,
    "tools-call-with-progress": "progress is ours: a number every five seconds, and the words of our own tools",
    "tools-call-sampling": NO_QUESTIONS,
    "tools-call-elicitation": NO_QUESTIONS,
    "elicitation-sep1034-defaults": NO_QUESTIONS,
    "elicitation-sep1330-enums": NO_QUESTIONS,
    "json-schema-2020-12": "needs a tool of its own, without the prefix of a server's name",
    "server-sse-polling": "a stream that was cut is not gone on with: the call's outcome is in the journal",
    **dict.fromkeys(
        ("resources-list", "resources-read-text", "resources-read-binary", "resources-templates-read",
         "resources-subscribe", "resources-unsubscribe"), NO_RESOURCES),
    **dict.fromkeys(
        ("prompts-list", "prompts-get-simple", "prompts-get-with-args", "prompts-get-embedded-resource",
         "prompts-get-with-image"), NO_PROMPTS),
}  # fmt: skip
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
LIMIT_S = 600


def offer_tools() -> None:
    """The server of somebody else, over standard input and output."""
    from mcp import types
    from mcp.server.fastmcp import FastMCP
    from pydantic import AnyUrl

    def content(kind: str) -> types.ContentBlock:
        if kind == "image":
            return types.ImageContent(type="image", data=PIXEL, mimeType="image/png")
        if kind == "audio":
            return types.AudioContent(type="audio", data=SILENCE, mimeType="audio/wav")
        if kind == "resource":
            words = types.TextResourceContents(uri=AnyUrl("test://resource"), mimeType="text/plain", text="a resource")
            return types.EmbeddedResource(type="resource", resource=words)
        return types.TextContent(type="text", text="This is a simple text response for testing.")

    server = FastMCP("test")
    for name, kinds in TOOLS.items():

        def answer(kinds: str = kinds) -> list[types.ContentBlock]:
            if kinds == "error":
                raise ValueError("This tool intentionally returns an error for testing")
            return [content(kind) for kind in kinds.split()]

        server.tool(name=name, description=f"Answers with: {kinds}.", structured_output=False)(
            lambda answer=answer: answer()
        )
    server.run()


def make_project(project: Path) -> None:
    """The shipped configuration, without a goal, and the server of somebody else."""
    shutil.copytree(ROOT / "config", project / "config")
    (project / "config" / "goal.yaml").unlink()
    stack, policy = project / "config" / "stack.yaml", project / "config" / "policy.yaml"
    content = yaml.safe_load(stack.read_text(encoding="utf-8")) or {}
    server = {"command": sys.executable, "args": [str(Path(__file__).resolve()), "--offer-tools"]}
    stack.write_text(yaml.safe_dump({**content, "mcpServers": {"test": server}}), encoding="utf-8")
    content = yaml.safe_load(policy.read_text(encoding="utf-8"))
    content["integrations"]["test"] = {"allow": list(TOOLS), "effects": dict.fromkeys(TOOLS, "read")}
    policy.write_text(yaml.safe_dump(content), encoding="utf-8")


def run_suite(node: Path, url: str) -> dict[str, bool]:
    """Scenario -> whether every check of it passed."""
    program = node.resolve() / "node_modules" / ".bin" / "conformance"
    ended = subprocess.run(
        [str(program), "server", "--url", url, "--suite", "all"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    lines = re.findall(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", ended.stdout, re.MULTILINE)
    if not lines:
        raise SystemExit(f"the suite did not run: {' '.join((ended.stderr or ended.stdout).split())[-400:]}")
    return {name: int(passed) > 0 and int(failed) == 0 for name, passed, failed in lines}


def measure(node: Path, folder: Path) -> dict[str, bool]:
    """The suite against `serve`, in a project of its own."""
    make_project(folder / "project")
    env = {**os.environ, "MLOPS_PROJECT": str(folder / "project"), "MLOPS_KEYS": str(folder / "keys")}
    crew = [sys.executable, "-m", "crew.cli"]
    subprocess.run(
        [*crew, "tools", "accept", "test", "--yes"], env=env, cwd=ROOT, check=True, timeout=LIMIT_S,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    serving = subprocess.Popen(
        [*crew, "serve", "--http", "0", "--no-token"], env=env, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert serving.stdout is not None
    try:
        said = ""
        for line in serving.stdout:
            said += line
            if found := re.search(r"http://\S+/mcp", line):
                # What it says later is read too, else it would wait for a reader.
                threading.Thread(target=serving.stdout.read, daemon=True).start()
                return run_suite(node, found[0])
        raise SystemExit(f"serve did not start: {said}")
    finally:
        serving.terminate()
        serving.wait(60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("node", type=Path, help="folder with node_modules/@modelcontextprotocol/conformance")
    node: Path = parser.parse_args().node
    version = json.loads((node / "node_modules/@modelcontextprotocol/conformance/package.json").read_text())["version"]
    with tempfile.TemporaryDirectory(prefix="mlops-crew-conformance-") as folder:
        found = measure(node, Path(folder))
    print(f"conformance {version}\n\n| scenario | ended | |\n|---|---|---|")
    for name, passed in sorted(found.items(), key=lambda item: (item[0] in NOT_APPLICABLE, item[0])):
        print(f"| {name} | {'passed' if passed else 'failed'} | {NOT_APPLICABLE.get(name, '')} |")
    applied = {name: passed for name, passed in found.items() if name not in NOT_APPLICABLE}
    wrong = [name for name, passed in found.items() if passed == (name in NOT_APPLICABLE)]
    print(f"\n{sum(applied.values())} of {len(applied)} passed; {len(found) - len(applied)} are not applicable.")
    if wrong:
        print(f"Not as it should be: {', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:] == ["--offer-tools"]:
        offer_tools()
    else:
        sys.exit(main())
