"""The REST kit: one HTTP client that remote integrations configure and never rewrite.

Holds: how a service is reached and who we are to it (`service`), the client (`client`), paging (`paging`), and what
each failure means to its reader (`faults`).

Must not: know a vendor, repeat a request (only the gateway does, and only where the action allows it), take an address
from a call, or let a secret into a message.
"""

from tools.rest.client import Answer, RestClient
from tools.rest.paging import CursorPages, LinkPages, Listing, NumberPages, OffsetPages
from tools.rest.service import Basic, Bearer, Header, NoAuth, Query, Service

__all__ = [
    "Answer", "Basic", "Bearer", "CursorPages", "Header", "LinkPages", "Listing", "NoAuth", "NumberPages",
    "OffsetPages", "Query", "RestClient", "Service",
]  # fmt: skip
