"""Plain Python requests: the proxy and the CA come from the environment alone."""

import requests
from jobs import BINARY, jobs


def exchange(method, url, body, kind):
    with requests.request(method, url, data=body, headers=BINARY if body else {}, stream=True, timeout=30) as response:
        yield response.status_code
        yield from response.iter_content(chunk_size=None)


jobs(exchange)
