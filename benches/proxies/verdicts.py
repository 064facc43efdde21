#!/usr/bin/env python3
"""The targets of the data plane and what became of them, from the raw figures of bench.py (--json)."""
import json, statistics, sys

data = json.load(open(sys.argv[1]))
res, cands = data["res"], data["cands"]


def median(test, name, key):
    values = [r[key] for r in res.get(test, {}).get(name, {}).values() if r and key in r]
    return statistics.median(values) if values else None


def within(test, ours, theirs, key):
    """Ours over theirs, round by round: neighbours in time."""
    a, b = res.get(test, {}).get(ours, {}), res.get(test, {}).get(theirs, {})
    ratios = [a[i][key] / b[i][key] for i in a if a[i] and b.get(i) and b[i].get(key) and key in a[i]]
    return statistics.median(ratios) if ratios else None


def added(test, ours, theirs):
    """What ours adds to the direct run over what theirs adds."""
    d, a, b = (median(test, n, "p50") for n in ("direct", ours, theirs))
    return None if None in (d, a, b) or b <= d else (a - d) / (b - d)


def of(name, *keys):
    value = cands.get(name)
    for key in keys:
        value = value.get(key) if value else None
    return value


def worst(*values):
    return max(values) if None not in values else None


T, B, H, HB = "tollpass", "tollpass-blind", "hudsucker", "hudsucker-blind"
rows = [
    ("plain, 1 connection, added p50", added("plain1", T, H), "× hudsucker", 0.80, False),
    ("plain, CPU per request", within("plain64", T, H, "cpu10k"), "× hudsucker", 0.60, False),
    ("plain, 64 connections, CPU-bound rate", within("plain64", T, "haproxy-http", "est"), "× haproxy", 1.0, True),
    ("blind tunnel, CPU per request", within("tun64", B, HB, "cpu10k"), "× hudsucker", 0.85, False),
    ("blind tunnel, added p50", added("tun1", B, "floor"), "× floor", 1.1, False),
    ("bulk through a tunnel", within("bulk", B, "floor", "mibs"), "× floor", 1.0, True),
    ("intercepted, CPU per request", within("mitm64", T, H, "cpu10k"), "× hudsucker", 0.65, False),
    ("intercepted, added p50", added("mitm1", T, H), "× hudsucker", 0.75, False),
    ("intercepted, new connection, CPU", within("mitmconn", T, H, "cpu10k"), "× hudsucker", 0.35, False),
    ("first request to a new host", within("newhost", T, "direct", "pass1"), "× direct", 1.5, False),
    ("HTTP/2, intercepted, CPU per request", within("h2", T, H, "cpu10k"), "× hudsucker", None, False),
    ("memory per idle tunnel", of(B, "idle", "kib"), " KiB", 2.5, False),
    ("memory per idle intercepted connection", of(T, "idle", "kib"), " KiB", 24, False),
    ("memory idle, ledger and metrics on", worst(of(T, "rss_idle"), of(B, "rss_idle")), " MiB", 8, False),
    ("memory after load", worst(of(T, "rss_load"), of(B, "rss_load")), " MiB", 18, False),
    ("start to first request", worst(of(T, "start_ms"), of(B, "start_ms")), " ms", 60, False),
    ("stripped binary", of(T, "bin_mib"), " MiB", 12, False),
]
print("\n### Targets\n\n| what | measured | wanted | met |\n|---|---:|---:|---|")
for what, got, unit, wanted, least in rows:
    if got is None:
        print(f"| {what} | not measured | | |")
    elif wanted is None:
        print(f"| {what} | {got:.2f}{unit} | | |")
    else:
        met = got >= wanted if least else got <= wanted
        print(f"| {what} | {got:.2f}{unit} | {'≥' if least else '≤'} {wanted:g}{unit} | {'yes' if met else '**no**'} |")
