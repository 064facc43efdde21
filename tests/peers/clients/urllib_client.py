"""Python's own urllib: the proxy and the CA come from the environment alone."""

import urllib.error
import urllib.request

from jobs import BINARY, jobs


def exchange(method, url, body, kind):
    request = urllib.request.Request(url, data=body, headers=BINARY if body else {}, method=method)
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        yield response.status
        while chunk := response.read1(65536):
            yield chunk


jobs(exchange)
