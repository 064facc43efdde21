"""Plain aiohttp with `trust_env`, without which it ignores the environment: the proxy and the CA come from there alone."""

import aiohttp
from jobs import BINARY, async_jobs


async def exchange(method, url, body):
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.request(method, url, data=body, headers=BINARY if body else {}) as response:
            yield response.status
            async for chunk in response.content.iter_any():
                yield chunk


async_jobs(exchange)
