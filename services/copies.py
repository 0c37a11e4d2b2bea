"""Tells a copy of a request from a client's own question.

The router, a roll-out and a replay make copies. A copy is answered like any other request, and is not captured: nobody
acted on what it was answered.
"""

from contextvars import ContextVar

# Set by whoever makes the copy; believed of this machine and of named proxies. The router drops what a client sends.
MARK = "x-roadworthy-shadow"
is_copy: ContextVar[bool] = ContextVar("is_copy", default=False)  # of the request that this task answers
