"""What a tool call returns, whatever the transport and whoever asked."""

import json
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tools.core.errors import ErrorKind


class Status(StrEnum):
    """How a call ended."""

    OK = "ok"
    NO_DATA = "no_data"  # nothing to return; the message says where it was looked for
    FAILED = "failed"
    DENIED = "denied"
    NEEDS_APPROVAL = "needs_approval"
    UNKNOWN = "unknown"  # a write whose outcome could not be learned


class ErrorInfo(BaseModel):
    """Why a call did not return data, for the reader named by `kind`.

    `wait_s`: seconds that a server asks to wait. `outside_model`: a model that a person may let be loaded although its
    files lie outside the configured store.
    """

    model_config = ConfigDict(extra="forbid")

    kind: ErrorKind
    message: str
    tried: str | None = None
    wait_s: float | None = None
    outside_model: str | None = None


class ToolResult(BaseModel):
    """The envelope of every call: a status, typed data, a short message and the id in the journal.

    `content`: MCP content blocks of somebody else's server (text, images), for outside clients only: neither journalled
    nor shown to agents.
    """

    model_config = ConfigDict(extra="forbid")

    status: Status
    message: str = ""
    data: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    call_id: str = ""
    content: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]], exclude=True, repr=False)

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    def __getitem__(self, key: str) -> Any:
        """A field of the data, or of the envelope: a result reads as a dictionary too.

        Raises:
            KeyError: there is none such; says how the call ended and what there is.
        """
        if self.data is not None and key in self.data:
            return self.data[key]
        if key in type(self).model_fields:
            return getattr(self, key)
        there = ", ".join([*(self.data or {}), *type(self).model_fields])
        raise KeyError(f"{key!r}; the call ended {self.status.value} ({self.message}) and returned: {there}")

    def get(self, key: str, default: Any = None) -> Any:
        """`self[key]`, or the default where there is none such."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """What `self[key]` takes, the data first."""
        return [*(self.data or {}), *(name for name in type(self).model_fields if name not in (self.data or {}))]

    def for_agent(self) -> str:
        """The text a model reads: compact JSON, the message once."""
        content = {key: value for key, value in self.model_dump(mode="json").items() if value is not None}
        if isinstance(content.get("data"), dict):
            content["data"].pop("message", None)
        return json.dumps(content, separators=(",", ":"))
