"""A real HTTP server that speaks OpenAI's chat completions on loopback and answers as a test scripts it."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


class Fault(Exception):
    """An answer that is no answer: an HTTP error, a stall, or a body that is not JSON."""

    def __init__(self, status: int = 200, *, body: str = "", stall_s: float = 0.0) -> None:
        super().__init__(status)
        self.status, self.body, self.stall_s = status, body, stall_s


Script = Callable[[list[dict[str, Any]], list[dict[str, Any]]], Any]


class OpenAIServer:
    """Answers `POST /v1/chat/completions` with what `script(messages, tools)` returns.

    A string is a final answer; a list of `(tool name, arguments)` are tool calls, arguments a dict or raw text; a
    `Fault` may be raised. `requests` keeps what was asked.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                try:
                    answer = outer.script(body["messages"], body.get("tools") or [])
                    status, text = 200, json.dumps(completion(answer, len(outer.requests)))
                except Fault as fault:
                    time.sleep(fault.stall_s)
                    status = fault.status
                    text = fault.body or json.dumps({"error": {"message": f"scripted {status}", "type": "scripted"}})
                data = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    if status == 429:
                        self.send_header("Retry-After", "0")
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the client gave up waiting, as a stall intends

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "OpenAIServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def completion(answer: Any, number: int) -> dict[str, Any]:
    """An answer in OpenAI's form."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if isinstance(answer, str):
        message["content"] = answer
        finish = "stop"
    else:
        message["tool_calls"] = [
            {
                "id": f"call_{number}_{index}",
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
                },
            }
            for index, (name, arguments) in enumerate(answer)
        ]
        finish = "tool_calls"
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": USAGE,
    }
