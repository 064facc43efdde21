"""What every Python client does around its library; the same lines as in jobs.mjs."""

import asyncio
import base64
import sys

BINARY = {"content-type": "application/octet-stream"}


def _jobs():
    """(number, kind, method, url, body) of each job."""
    path, rest = sys.argv[1], sys.argv[2:]
    for number, (kind, url) in enumerate(zip(rest[::2], rest[1::2])):
        body = open(path, "rb").read() if kind == "post" else None
        yield number, kind, "POST" if body else "GET", url, body


class _Answer:
    """Collects what one exchange yields: the status first, then the chunks as they arrive."""

    def __init__(self, number, kind):
        self.number, self.kind, self.status, self.chunks = number, kind, None, []

    def take(self, value):
        if self.status is None:
            self.status = value
        elif value:
            if self.kind == "stream" and not self.chunks:
                print(f"first {self.number}", flush=True)
            self.chunks.append(value)

    def done(self):
        body = base64.b64encode(b"".join(self.chunks)).decode()
        print(f"done {self.number} {self.status} {body}", flush=True)

    def fail(self, error):
        print(f"fail {self.number} {type(error).__name__}: {error}".replace("\n", " "), flush=True)


def jobs(exchange):
    """`exchange(method, url, body, kind)` is a generator."""
    for number, kind, method, url, body in _jobs():
        answer = _Answer(number, kind)
        try:
            for value in exchange(method, url, body, kind):
                answer.take(value)
            answer.done()
        except Exception as error:
            answer.fail(error)


def async_jobs(exchange):
    """The same for an asynchronous generator."""

    async def run():
        for number, kind, method, url, body in _jobs():
            answer = _Answer(number, kind)
            try:
                async for value in exchange(method, url, body):
                    answer.take(value)
                answer.done()
            except Exception as error:
                answer.fail(error)

    asyncio.run(run())
