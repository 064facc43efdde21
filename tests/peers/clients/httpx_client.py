"""Plain Python httpx: the proxy and the CA come from the environment alone."""

import httpx
from jobs import BINARY, jobs


def exchange(method, url, body, kind):
    with httpx.stream(method, url, content=body, headers=BINARY if body else {}, timeout=30) as response:
        yield response.status_code
        yield from response.iter_bytes()


jobs(exchange)
