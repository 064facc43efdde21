"""The built-in candidates. Each function writes its configuration under d (a fresh
directory) and returns a dict: cmd (argv), env, kind, or None where its program is missing.
e carries: port, dir, ca_cert, ca_key, ca_pem (key+cert), roots, origin_plain, origin_tls,
hosts, bins (from --bin), here (folder of the bench), tools (folder of the compiled helpers).
kind "forward": a forward proxy, spoken to with absolute-form requests and CONNECT.
kind "relay"/"reverse": a fixed-upstream reference, spoken to as if it were the origin."""
import json, os, pathlib, shutil, subprocess

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent


def which(e, name, *also):
    p = e.bins.get(name)
    if p:
        return p
    for n in (name,) + also:
        p = shutil.which(n) or next((q for q in (f"/usr/sbin/{n}", f"/usr/lib/squid/{n}") if os.access(q, os.X_OK)), None)
        if p:
            return p
    return None


def put(d, name, text):
    p = pathlib.Path(d) / name
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_text(text)
    return str(p)


def give(d, user):
    """hand d to user, where that user exists (a daemon that drops root must write there)"""
    try:
        shutil.chown(d, user)
        for r, ds, fs in os.walk(d):
            for n in ds + fs:
                shutil.chown(os.path.join(r, n), user)
    except (LookupError, PermissionError):
        pass


def _squid(e, d, bump):
    b = which(e, "squid")
    if not b:
        return None
    port = f"http_port 127.0.0.1:{e.port}"
    tls = ""
    if bump:
        gen = which(e, "security_file_certgen")
        if not gen:
            return None
        subprocess.run([gen, "-c", "-s", f"{d}/ssl_db", "-M", "16MB"], check=True, stdout=subprocess.DEVNULL)
        port += (f" ssl-bump tls-cert={e.ca_cert} tls-key={e.ca_key} generate-host-certificates=on"
                 " dynamic_cert_mem_cache_size=16MB")
        tls = (f"sslcrtd_program {gen} -s {d}/ssl_db -M 16MB\nsslcrtd_children 4 startup=2 idle=1\n"
               f"tls_outgoing_options cafile={e.roots}\nacl step1 at_step SslBump1\nssl_bump peek step1\nssl_bump bump all\n")
    c = put(d, "squid.conf", f"""{port}
http_access allow all
cache deny all
cache_mem 0
memory_pools on
access_log none
cache_log {d}/cache.log
cache_store_log none
pid_filename {d}/squid.pid
coredump_dir {d}
hosts_file {e.hosts}
shutdown_lifetime 1 seconds
netdb_filename none
pinger_enable off
max_filedescriptors {e.nofile}
client_lifetime 1 day
pconn_timeout 5 minutes
{tls}""")
    give(d, "proxy")
    return dict(cmd=[b, "-N", "-f", c, "-n", "b" + str(e.port)], bin=b, single=True)


def squid(e, d):
    return _squid(e, d, False)


def squid_bump(e, d):
    return _squid(e, d, True)


def tinyproxy(e, d):
    b = which(e, "tinyproxy")
    if not b:
        return None
    c = put(d, "t.conf", f"""Port {e.port}
Listen 127.0.0.1
Timeout 600
MaxClients 20000
Allow 127.0.0.0/8
LogLevel Critical
LogFile "{d}/log"
DisableViaHeader No
""")
    return dict(cmd=[b, "-d", "-c", c], bin=b)


def trafficserver(e, d):
    b = which(e, "traffic_server")
    if not b:
        return None
    for s in ("etc", "log", "run", "cache"):
        os.makedirs(f"{d}/{s}", exist_ok=True)
    sysconf = "/etc/trafficserver"
    put(d, "runroot.yaml", f"""prefix: {d}
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: {d}/etc
datadir: {d}/cache
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {d}/run
runtimedir: {d}/run
logdir: {d}/log
cachedir: {d}/cache
""")
    put(d, "etc/records.config", f"""CONFIG proxy.config.http.server_ports STRING {e.port}:ip-in=127.0.0.1
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.diags.debug.enabled INT 0
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT 2
CONFIG proxy.config.accept_threads INT 1
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.net.connections_throttle INT {e.nofile - 500}
CONFIG proxy.config.net.max_connections_in INT {e.nofile // 2}
CONFIG proxy.config.net.default_inactivity_timeout INT 600
CONFIG proxy.config.http.transaction_no_activity_timeout_in INT 600
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 600
CONFIG proxy.config.http.keep_alive_no_activity_timeout_out INT 600
CONFIG proxy.config.http.server_session_sharing.pool STRING thread
CONFIG proxy.config.http.server_session_sharing.match STRING both
CONFIG proxy.config.hostdb.host_file.path STRING {e.hosts}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
""")
    put(d, "etc/ip_allow.yaml", "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n"
        "  - apply: out\n    ip_addrs: 0/0\n    action: allow\n    methods: ALL\n")
    put(d, "etc/storage.config", f"{d}/cache 16M\n")
    for n in ("remap.config", "plugin.config", "hosting.config", "cache.config", "parent.config", "volume.config",
              "ssl_multicert.config", "splitdns.config", "socks.config"):
        put(d, "etc/" + n, "")
    for n in ("sni.yaml", "strategies.yaml", "logging.yaml"):
        put(d, "etc/" + n, "")
    if os.path.isdir(sysconf + "/body_factory"):
        shutil.copytree(sysconf + "/body_factory", f"{d}/etc/body_factory", dirs_exist_ok=True)
    return dict(cmd=[b], env={"TS_RUNROOT": f"{d}/runroot.yaml"}, bin=b, by_ip=True)


def _mitm(e, d, blind):
    b = which(e, "mitmdump")
    if not b:
        return None
    put(d, "mitmproxy-ca.pem", open(e.ca_pem_rsa).read())
    cmd = [b, "-q", "--listen-host", "127.0.0.1", "-p", str(e.port), "--set", f"confdir={d}",
           "--set", f"ssl_verify_upstream_trusted_ca={e.roots}", "--set", "http2=false"]
    if blind:
        cmd += ["--ignore-hosts", ".*"]
    return dict(cmd=cmd, bin=None, single=True)


def mitmproxy(e, d):
    return _mitm(e, d, False)


def hudsucker(e, d):
    b = which(e, "hudfwd")
    return b and dict(cmd=[b, str(e.port), e.ca_cert, e.ca_key, e.roots, "mitm"], bin=b)


def hudsucker_blind(e, d):
    b = which(e, "hudfwd")
    return b and dict(cmd=[b, str(e.port), e.ca_cert, e.ca_key, e.roots, "blind"], bin=b)


def _g3(e, d, bump):
    b, gen = which(e, "g3proxy"), which(e, "g3fcgen")
    if not b or (bump and not gen):
        return None
    audit = audit_ref = ""
    pre = []
    if bump:
        audit_ref = "\n    auditor: default"
        audit = f"""auditor:
  - name: default
    protocol_inspection: {{}}
    tls_cert_agent:
      query_peer_addr: 127.0.0.1:{e.port + 1}
    tls_interception_client:
      ca_certificate: {e.roots}
    task_audit_ratio: 1.0
"""
        g = put(d, "fcgen.yaml", f"runtime:\n  thread_number: 1\nbackend:\n  ca_certificate: {e.ca_cert}\n  ca_private_key: {e.ca_key}\n")
        pre = [[gen, "-c", g, "-G", "b" + str(e.port)]]
    c = put(d, "g3.yaml", f"""runtime:
  thread_number: 2
log: discard
{audit}server:
  - name: http
    escaper: default
    type: http_proxy{audit_ref}
    listen:
      address: "127.0.0.1:{e.port}"
    tls_client:
      ca_certificate: {e.roots}
    task_idle_check_interval: 5m
resolver:
  - name: default
    type: hickory
    server: 127.0.0.1
escaper:
  - name: default
    type: direct_fixed
    no_ipv6: true
    resolver: default
    resolve_strategy: IPv4Only
    egress_network_filter:
      default: allow
      allow: 127.0.0.1
""")
    return dict(cmd=[b, "-c", c, "-G", "b" + str(e.port), "--control-dir", d], pre=pre, bin=b, by_ip=True,
                env={"UDP_LISTEN_ADDR": f"127.0.0.1:{e.port + 1}"})


def g3proxy(e, d):
    return _g3(e, d, False)


def g3proxy_mitm(e, d):
    return _g3(e, d, True)


TOLLPASS_KEY = "0x" + "11" * 32  # test money only


def _wallet(b, d):
    """A wallet in three shares, for a program without the local signer, as in the image. Nothing is paid here, so no co-signer runs."""
    made = subprocess.run([b, "wallet", "create", "--one-host", f"{d}/wallet", "--wallet", "bench", "--agent", "bot", "--json"],
                          check=True, capture_output=True, text=True)
    pin = json.loads(made.stdout)["identities"]["cosigner"]
    return (f'{{ mpc: {{ wallet: bench, share: "file:wallet/sidecar/share", unseal: "file:wallet/passphrases/sidecar/passphrase", '
            f'identity: "file:wallet/sidecar/identity.pem", cosigner: "https://127.0.0.1:9", pin: "{pin}" }} }}')


def _tollpass(e, d, intercept):
    """As it ships: ledger on disk, a signer, metrics, agent identity, guard and policy on. Every host of the bench could be
    paid for, so each request also meets what that costs."""
    b = which(e, "tollpass") or str(SOURCE / "target/released/tollpass")
    if not os.access(b, os.X_OK):
        return None
    # Its state as an earlier start left it, with the bench's CA.
    for folder, mode in (("state", 0o711), ("state/private", 0o700), ("state/trust", 0o755)):
        os.makedirs(f"{d}/{folder}")
        os.chmod(f"{d}/{folder}", mode)
    shutil.copy(e.ca_key, f"{d}/state/private/ca.key")
    os.chmod(f"{d}/state/private/ca.key", 0o600)
    shutil.copy(e.ca_cert, f"{d}/state/trust/ca.pem")
    allow = 'networks: ["eip155:84532"], assets: [USDC], pay_to: pinned'
    put(d, "policy.yaml", f"""version: 1
agents:
  bot:
    caps: {{ per_payment: 0.05, day: 5 }}
    rate: {{ per_minute: 30 }}
    allow:
      - {{ id: names, host: "*.bench.test", {allow} }}
      - {{ id: address, host: 127.0.0.1, {allow}, plain_http: true }}
  other:
    caps: {{ per_payment: 0.05, day: 5 }}
    allow:
      - {{ id: bureau, host: api.bureau.example, {allow} }}
""")
    config = lambda signer: put(d, "tollpass.yaml", f"""version: 1
listen: {{ proxy: "127.0.0.1:{e.port}", admin: "127.0.0.1:0" }}
state: ./state
ledger: {{ ephemeral: accept }}
policy: policy.yaml
agents: {{ default: bot }}
signer: {signer}
tls: {{ intercept: {intercept}, extra_roots: ["{e.roots}"] }}
upstream: {{ allow_private: true }}
limits: {{ connections: 30000 }}
""")
    env = {"BENCH_KEY": TOLLPASS_KEY}
    c = config("{ local: { key: env:BENCH_KEY } }")
    check = subprocess.run([b, "serve", "--check", "--config", c], capture_output=True, text=True, env=dict(os.environ, **env))
    if "no local signer" in check.stdout:
        c = config(_wallet(b, d))
    return dict(cmd=[b, "serve", "--config", c], bin=b, env=env)


def tollpass(e, d):
    return _tollpass(e, d, "all")


def tollpass_blind(e, d):
    return _tollpass(e, d, "none")


def floor(e, d):
    return dict(cmd=[f"{e.tools}/floor", str(e.port)], bin=f"{e.tools}/floor", by_ip=True, single=True)


def _haproxy(e, d, front, back, mode, bind=""):
    b = which(e, "haproxy")
    if not b:
        return None
    c = put(d, "h.cfg", f"""global
    nbthread 2
    maxconn 4000
    tune.ssl.default-dh-param 2048
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode {mode}
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    {'http-reuse always' if mode == 'http' else 'option splice-auto'}
frontend f
    bind 127.0.0.1:{e.port} {bind}
    default_backend b
backend b
    server o 127.0.0.1:{back}
""")
    return dict(cmd=[b, "-db", "-f", c], bin=b, kind=front)


def haproxy_http(e, d):
    return _haproxy(e, d, "fixed-http", e.origin_plain, "http")


def haproxy_tcp(e, d):
    return _haproxy(e, d, "relay", e.origin_tls, "tcp")


def haproxy_tls(e, d):
    return _haproxy(e, d, "reverse", f"{e.origin_tls} ssl verify required ca-file {e.roots} sni str(o.bench.test) verifyhost o.bench.test",
                    "http", f"ssl crt {e.mitm_leaf}")


BUILTIN = {f.__name__.replace("_", "-"): f for f in
           (tollpass, tollpass_blind, floor, haproxy_http, haproxy_tcp, haproxy_tls, squid, squid_bump, tinyproxy, trafficserver,
            g3proxy, g3proxy_mitm, hudsucker_blind, hudsucker, mitmproxy)}
