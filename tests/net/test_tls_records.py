"""TLS records that bring nothing, and small ones that do."""

from __future__ import annotations

import ctypes
import ssl
from pathlib import Path

import pytest

from smppd.net.tls import RECORD, TlsStream
from tests.net.test_tls import pair, version_1_2


def key_updates(stream: TlsStream, number: int) -> bytes:
    """As many key updates as a client may send (RFC 8446 section 4.6.3). Python's ssl cannot ask for one."""
    library = ctypes.CDLL(ssl._ssl.__file__)  # type: ignore[attr-defined]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    # struct PySSLSocket: the object's head, its socket, SSL*.
    inner = stream._tls._sslobj  # type: ignore[attr-defined]
    pointer = ctypes.c_size_t.from_address(id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)).value
    for _ in range(number):
        assert library.SSL_key_update(pointer, 0) == 1
        assert library.SSL_do_handshake(pointer) == 1
    return stream.outgoing()


def test_records_that_bring_nothing_end_the_stream(certs: Path) -> None:
    client, server = pair(certs)
    some = key_updates(client, 100)
    assert server.receive(some) == b""
    assert server.receive(client.encrypt(b"hello")) == b"hello", "now and then a peer changes its keys"
    flood = key_updates(client, 5000)
    assert server.receive(flood[:65536]) == b"" and server.failed == "records without content"
    assert server.receive(flood[65536:]) == b""


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("step", [1, 700, 65536])
def test_small_records_and_whole_ones_are_content_however_many(certs: Path, version: str, step: int) -> None:
    client, server = pair(certs, version_1_2(certs) if version == "TLSv1.2" else None)
    wire = b"".join([client.encrypt(b"x") for _ in range(2000)])
    data = bytes(RECORD)
    for _ in range(3):
        client._tls.write(data)  # one record, where `encrypt` makes eight
        wire += client.outgoing()
    plain = b"".join(server.receive(wire[at : at + step]) for at in range(0, len(wire), step))
    assert plain == b"x" * 2000 + 3 * data and server.failed is None
