"""Buys with the Python package x402 and httpx: URL CONNECTIONS SECONDS; prints one line of JSON. Run with the venv of tests/peers."""
import asyncio, json, os, sys, time

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.mechanisms.evm.exact.register import register_exact_evm_client


async def main(url, connections, seconds):
    client = x402Client()
    register_exact_evm_client(client, Account.from_key(os.environ["BENCH_KEY"]))
    start = time.perf_counter() + 0.5
    until = start + seconds
    took, failed, page = [], 0, os.getpid() << 24
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    transport = x402AsyncTransport(client, httpx.AsyncHTTPTransport(limits=limits))

    async with httpx.AsyncClient(transport=transport, timeout=30) as http:

        async def buy():
            nonlocal failed, page
            while (begun := time.perf_counter()) < until:
                page += 1
                try:
                    answer = await http.get(f"{url}/buy/{page:x}")
                    good = answer.status_code == 200 and len(answer.content) == 1024
                except Exception:
                    good = False
                if begun < start:
                    continue
                if good:
                    took.append(time.perf_counter() - begun)
                else:
                    failed += 1

        await asyncio.gather(*(buy() for _ in range(connections)))
    took.sort()
    at = lambda part: took[int(len(took) * part)] * 1e3 if took else 0
    print(json.dumps(dict(bought=len(took), failed=failed, per_second=len(took) / seconds, p50_ms=at(0.5), p99_ms=at(0.99))))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
