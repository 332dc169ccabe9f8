"""Which addresses are reached without a proxy: this machine's own, whatever `HTTP_PROXY` says.

No proxy could reach them; one that is set for the outside would take every call to our own servers down.
"""

import ipaddress
import os
from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")
BYPASS = ("no_proxy", "NO_PROXY")  # which of them a library reads first differs, so both are set
_PROXIED = ("http_proxy", "https_proxy", "all_proxy")


def is_this_machine(host: str) -> bool:
    """Whether a host is a name or an address of this machine."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_use_proxy(url: str) -> bool:
    """Whether the environment's proxies are for an address; for `trust_env` of an HTTP client."""
    try:
        return not is_this_machine(urlsplit(url).hostname or "")
    except ValueError:  # not an address at all, which the client says
        return True


def bypass(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep libraries which read the environment by themselves off the proxy for this machine.

    Empty where no proxy is set. What the environment exempts already stays exempt.
    """
    if not any(env.get(name) or env.get(name.upper()) for name in _PROXIED):
        return {}
    found = (env.get(name, "") for name in BYPASS)
    exempt = dict.fromkeys(part for given in found for part in (item.strip() for item in given.split(",")) if part)
    if "*" in exempt:
        return {}
    value = ",".join(dict.fromkeys([*exempt, *LOCAL]))
    return dict.fromkeys(BYPASS, value)


def bypass_here(env: MutableMapping[str, str] | None = None) -> None:
    """`bypass` for this process."""
    env = os.environ if env is None else env
    env.update(bypass(env))
