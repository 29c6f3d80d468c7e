"""Addresses and errors without what must not be seen in them."""

from __future__ import annotations

import re

_OF_USER = re.compile(r"(://[^:/@\s]*):[^\s]*@")
_OF_QUERY = re.compile(r"([?&][a-z_]*(?:pass|pwd|secret|token|key)[a-z_]*=)[^&#\s]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Give a text with the passwords of its URLs as `***`: of the user, and in the query."""
    return _OF_QUERY.sub(r"\1***", _OF_USER.sub(r"\1:***@", text))


def reason(error: BaseException) -> str:
    """Give the cause of a failure in one line, without passwords."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {masked(said[0])}" if said else type(error).__name__
