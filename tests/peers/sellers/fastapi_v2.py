"""Seller on the PyPI x402 FastAPI middleware (x402 v2). Unmodified library; the payee follows the path."""

import asyncio
import hashlib
import json
import os

import uvicorn
from eth_utils import to_checksum_address
from fastapi import FastAPI, Request
from x402 import x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import payment_middleware
from x402.mechanisms.evm.exact import ExactEvmServerScheme

NETWORK = "eip155:84532"


def cell_of(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def payee_of(cell: str) -> str:
    """The same derivation as payeeOf in common.mjs."""
    return to_checksum_address("0x" + hashlib.sha256(f"tollpass-peer:{cell}".encode()).hexdigest()[-40:])


route = {
    "accepts": {
        "scheme": "exact",
        "network": NETWORK,
        "price": "$0.01",
        "payTo": lambda context: payee_of(cell_of(context.path)),
        "maxTimeoutSeconds": 300,
    },
    "description": "peer test",
    "mimeType": "application/json",
}
server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=os.environ["FACILITATOR_URL"])))
server.register(NETWORK, ExactEvmServerScheme())

app = FastAPI()
app.middleware("http")(payment_middleware({"GET /buy/*": route, "POST /buy/*": route}, server))


@app.api_route("/buy/{cell}", methods=["GET", "POST"])
async def echo(cell: str, request: Request):
    digest, length = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        length += len(chunk)
    return {"cell": cell, "method": request.method, "length": length, "sha256": digest.hexdigest()}


async def main():
    tls = {"ssl_keyfile": os.environ["SELLER_KEY"], "ssl_certfile": os.environ["SELLER_CERT"]}
    common = {"host": "127.0.0.1", "port": 0, "log_level": "warning"}
    servers = [uvicorn.Server(uvicorn.Config(app, **common)), uvicorn.Server(uvicorn.Config(app, **common, **tls))]
    running = [asyncio.create_task(s.serve()) for s in servers]
    while not all(s.started for s in servers):
        for task in running:
            if task.done():
                task.result()
        await asyncio.sleep(0.02)
    ports = [s.servers[0].sockets[0].getsockname()[1] for s in servers]
    print(json.dumps({"http": f"http://127.0.0.1:{ports[0]}", "https": f"https://localhost:{ports[1]}"}), flush=True)
    await asyncio.gather(*running)


asyncio.run(main())
