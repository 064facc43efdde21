"""Plain Python httpx: the proxy and the CA come from the environment alone."""

import json
import sys

import httpx

url, method, path = sys.argv[1:4]
headers = {"content-type": "application/octet-stream"} if method == "POST" else {}
body = open(path, "rb").read() if method == "POST" else None
response = httpx.request(method, url, content=body, headers=headers, timeout=30)
print(json.dumps({"status": response.status_code, "body": response.text}))
