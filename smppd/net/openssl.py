"""What the standard library's ``ssl`` cannot set on a context: the list of groups, signature algorithms, no session cache.

CPython keeps OpenSSL's context (``SSL_CTX *``) as the first field of an ``SSLContext``, and the extension module that it
belongs to leads to the very library behind it. `SslLibrary` takes both, and uses them only when it has seen that they are what
they should be: what Python sets on two fresh contexts must be read back through the library. Where that is not so (another
interpreter, a library that hides its functions) there is no `SslLibrary`, and `tls` takes the narrower way that Python offers.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

_SET_SESSION_CACHE: Final = 44  # SSL_CTRL_SET_SESS_CACHE_MODE
_SET_GROUPS: Final = 92  # SSL_CTRL_SET_GROUPS_LIST
_SET_SIGNATURES: Final = 98  # SSL_CTRL_SET_SIGALGS_LIST
_SET_CLIENT_SIGNATURES: Final = 102  # SSL_CTRL_SET_CLIENT_SIGALGS_LIST
_KNOWN: Final = ((3, 11), (3, 12), (3, 13))
"""Versions of CPython whose `PySSLContext` begins with the pointer (Modules/_ssl.c)."""


class OpenSslError(Exception):
    """OpenSSL did not take a setting, or cannot be reached from here. The text says which."""


class SslLibrary:
    """libssl as the interpreter uses it."""

    def __init__(self) -> None:
        """OpenSslError when contexts of this interpreter cannot be reached."""
        if sys.implementation.name != "cpython" or sys.version_info[:2] not in _KNOWN:
            raise OpenSslError(f"the contexts of {sys.implementation.name} {sys.version.split()[0]} are not known here")
        if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "getobjects"):
            raise OpenSslError("objects of this build of CPython are laid out differently")
        try:
            import _ssl

            library: Any = ctypes.CDLL(getattr(_ssl, "__file__", None))
            self._options = library.SSL_CTX_get_options
            self._control = library.SSL_CTX_ctrl
        except (ImportError, OSError, AttributeError):
            raise OpenSslError("the functions of libssl cannot be found") from None
        self._options.argtypes, self._options.restype = [ctypes.c_void_p], ctypes.c_uint64
        self._control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._control.restype = ctypes.c_long
        self._probe()

    def _probe(self) -> None:
        """Changes an option by Python's own means, twice and differently, and reads it back through the pointer."""
        for option in (ssl.OP_NO_TICKET, ssl.OP_CIPHER_SERVER_PREFERENCE):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for wanted in (context.options | option, context.options & ~option):
                context.options = wanted
                pointer = self._pointer(context)
                if not _mapped(pointer) or self._options(pointer) != int(context.options):
                    raise OpenSslError("a context does not begin with its SSL_CTX")

    @staticmethod
    def _pointer(context: ssl.SSLContext) -> int:
        return ctypes.c_size_t.from_address(id(context) + object.__basicsize__).value

    def _set(self, context: ssl.SSLContext, what: int, text: str, name: str) -> None:
        if self._control(self._pointer(context), what, 0, text.encode("ascii")) != 1:
            raise OpenSslError(f"OpenSSL does not take these {name}: {text}")

    def set_groups(self, context: ssl.SSLContext, groups: str) -> None:
        """The key exchanges of a context, colon-separated, best first. OpenSslError."""
        self._set(context, _SET_GROUPS, groups, "groups")

    def set_signatures(self, context: ssl.SSLContext, algorithms: str) -> None:
        """The signatures that either side may use, those of client certificates included. OpenSslError."""
        self._set(context, _SET_SIGNATURES, algorithms, "signature algorithms")
        self._set(context, _SET_CLIENT_SIGNATURES, algorithms, "signature algorithms")

    def forget_sessions(self, context: ssl.SSLContext) -> None:
        """Turns the context's cache of sessions off: no TLS 1.2 session id of it is ever resumed, none takes memory."""
        self._control(self._pointer(context), _SET_SESSION_CACHE, 0, None)


def _mapped(pointer: int) -> bool:
    """Whether memory that may be read begins here; asked before anything is read through a pointer."""
    if not pointer or pointer % 8:
        return False
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        span, rights, *_ = line.split(None, 2)
        first, last = (int(part, 16) for part in span.split("-"))
        if first <= pointer < last:
            return rights.startswith("rw")
    return False
