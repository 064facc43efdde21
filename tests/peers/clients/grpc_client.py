"""Plain grpcio: the proxy and the CA come from the environment alone. A stream is a server-streaming call, everything else
a unary one; messages are bytes."""

from urllib.parse import urlsplit

import grpc
from jobs import jobs

CHANNELS = {}


def connect(scheme, authority):
    if authority not in CHANNELS:
        secure = scheme == "https"
        CHANNELS[authority] = (
            grpc.secure_channel(authority, grpc.ssl_channel_credentials()) if secure else grpc.insecure_channel(authority)
        )
    return CHANNELS[authority]


def exchange(method, url, body, kind):
    at = urlsplit(url)
    channel = connect(at.scheme, at.netloc)
    yield 200
    if kind == "stream":
        yield from channel.unary_stream(at.path)(body or b"", timeout=30)
    else:
        yield channel.unary_unary(at.path)(body or b"", timeout=30)


jobs(exchange)
