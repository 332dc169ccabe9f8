"""What our gateway tells one of our servers beside the arguments of a call, and how the server knows who told it.

Any MCP client can write what it likes into `_meta`. Run id, call id, time limit and the answer to a question therefore
count only with a proof made by a key that the gateway and the server share, over exactly this call. In one process the
key is handed over at construction, to a process that the gateway starts in its environment, and over HTTP it is set as
`MLOPS_GATEWAY_KEY` on both sides. Without it the server's own values apply.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tools.core.contract import Answer
from tools.core.errors import FinalError
from tools.core.names import is_name

META_RUN = "mlops/run_id"
META_CALL = "mlops/call_id"
META_TIMEOUT = "mlops/timeout_s"
META_ANSWER = "mlops/answer"
META_KEY = "mlops/idempotency_key"
META_OUTSIDE = "mlops/outside_models"
META_PROOF = "mlops/proof"
_NAMES = (META_RUN, META_CALL, META_TIMEOUT, META_ANSWER, META_KEY, META_OUTSIDE)
GATEWAY_KEY = "MLOPS_GATEWAY_KEY"
MIN_KEY_CHARS = 16
MAX_TIMEOUT_S = 24 * 3600.0


@dataclass(frozen=True)
class CallMeta:
    """What belongs to a call beside its arguments. `answer`: what was chosen, for an action that `asks`. `key`: of a
    write; see `writes`. `outside_models`: see `CallContext`."""

    run_id: str
    call_id: str
    timeout_s: float
    answer: Answer | None = None
    key: str = ""
    outside_models: frozenset[str] = frozenset()


class GatewayKey:
    """A secret that a gateway and its server share. Immutable.

    Args:
        secret: at least `MIN_KEY_CHARS` characters.

    Raises:
        FinalError: it is shorter.
    """

    def __init__(self, secret: str) -> None:
        if len(secret) < MIN_KEY_CHARS:
            raise FinalError(f"{GATEWAY_KEY} must have at least {MIN_KEY_CHARS} characters, got {len(secret)}")
        self.secret = secret

    @classmethod
    def new(cls) -> "GatewayKey":
        return cls(secrets.token_urlsafe(32))

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "GatewayKey | None":
        """The key set in the environment, if any. Raises `FinalError` when it is too short."""
        secret = env.get(GATEWAY_KEY)
        return cls(secret) if secret else None

    def sign(self, tool: str, arguments: Mapping[str, Any], meta: CallMeta) -> dict[str, Any]:
        """`_meta` of a call, with the proof."""
        given = _given(meta)
        return {**given, META_PROOF: self._proof(tool, arguments, given)}

    def read(self, tool: str, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> CallMeta | None:
        """What came with a call; None where its proof is missing or wrong, or a value is none that we send."""
        named = {name: given[name] for name in _NAMES if name in given}
        proof = given.get(META_PROOF)
        if not isinstance(proof, str) or not proof.isascii():
            return None
        if not hmac.compare_digest(proof, self._proof(tool, arguments, named)):
            return None
        run_id, call_id, timeout_s = (named.get(name) for name in (META_RUN, META_CALL, META_TIMEOUT))
        if not isinstance(run_id, str) or not isinstance(call_id, str) or not is_name(run_id):
            return None
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MAX_TIMEOUT_S:
            return None
        answer, key = named.get(META_ANSWER), named.get(META_KEY, "")
        outside = named.get(META_OUTSIDE, [])
        if not isinstance(key, str) or not isinstance(outside, list):
            return None
        said = Answer(**answer) if answer is not None else None
        return CallMeta(run_id, call_id, float(timeout_s), said, key, frozenset(map(str, outside)))

    def _proof(self, tool: str, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> str:
        signed = json.dumps([tool, dict(arguments), dict(given)], sort_keys=True, default=str)
        return hmac.new(self.secret.encode(), signed.encode(), "sha256").hexdigest()


def _given(meta: CallMeta) -> dict[str, Any]:
    given: dict[str, Any] = {
        META_RUN: meta.run_id,
        META_CALL: meta.call_id,
        META_TIMEOUT: float(meta.timeout_s),
    }
    if meta.answer is not None:
        given[META_ANSWER] = asdict(meta.answer)
    if meta.key:
        given[META_KEY] = meta.key
    if meta.outside_models:
        given[META_OUTSIDE] = sorted(meta.outside_models)
    return given
