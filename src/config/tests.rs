#![allow(clippy::unwrap_used)]
use super::*;

const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const SMALLEST: &str = "version: 1\nagents: { default: research-bot }\nsigner: { local: { key: env:K } }\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    let env = |name: &str| (name == "K").then(|| KEY.to_owned());
    Config::parse(Path::new("/etc/tollpass/tollpass.yaml"), text, &env)
}

/// The first mistake of `SMALLEST` plus `text`; line 4 is the first line of `text`.
fn mistake(text: &str) -> String {
    let error = parse(&format!("{SMALLEST}{text}")).expect_err(text);
    error.0[0].to_string().replace("/etc/tollpass/", "")
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let c = parse(SMALLEST).unwrap();
    assert_eq!(
        c.listen,
        Listen {
            proxy: "127.0.0.1:8402".parse().unwrap(),
            admin: Some("127.0.0.1:9402".parse().unwrap()),
            health: None,
            https: None,
            socks: None,
            transparent: None
        }
    );
    assert_eq!(c.state, Path::new("/var/lib/tollpass"));
    assert_eq!(c.policy, Path::new("/etc/tollpass/policies"));
    assert_eq!(
        c.limits,
        Limits {
            connections: 4096,
            agent_connections: 4096,
            requests: 8192,
            agent_requests: 8192,
            header: 32 << 10,
            seller_header: 64 << 10,
            body: u64::MAX,
            idle: Duration::from_secs(300),
            challenge: 64 << 10,
            challenge_time: Duration::from_secs(5),
            identical: 64,
        }
    );
    assert_eq!(parse(&format!("{SMALLEST}limits: {{ body: none, requests: 9 }}\n")).unwrap().limits.agent_requests, 9);
    assert_eq!(c.drain, Drain { unpaid: Duration::from_secs(10), paid: Duration::from_secs(25) });
    assert_eq!((c.upstream.replay_limit, c.upstream.replay_memory, c.upstream.replay_disk), (16 << 20, 64 << 20, 1 << 30));
    assert_eq!((c.upstream.connect.as_secs(), c.upstream.first_byte.as_secs(), c.upstream.idle.as_secs()), (5, 300, 300));
    assert!(c.upstream.parent.is_none() && c.access_log == AccessFormat::Off);
    assert!(!c.upstream.allow_private && !c.ledger.ephemeral_ok && !c.metrics.all_agents);
    assert_eq!(c.tls.intercept, Intercept::Allowed);
    assert_eq!((c.decision_log, c.policy_shadow), (DecisionLogConfig { size: 64 << 20, files: 4 }, None));
    let c = parse(&format!("{SMALLEST}decision_log: {{ size: 1MiB, files: 0 }}\npolicy_shadow: draft.yaml\n")).unwrap();
    assert_eq!((c.decision_log.files, c.policy_shadow.as_deref()), (0, Some(Path::new("/etc/tollpass/draft.yaml"))));
    assert_eq!(mistake("decision_log: { size: 1KiB }\n"), "tollpass.yaml:4:23: `size`: write a size from 1024KiB to 1048576KiB");
    assert_eq!((c.private(), c.trust()), ("/var/lib/tollpass/private".into(), "/var/lib/tollpass/trust".into()));
}

#[test]
fn every_key_is_read() {
    let c = parse(
        r#"
version: 1
listen:   { proxy: "[::1]:18402", admin: none, health: "0.0.0.0:9403" }
state:    state
ledger:   { store: sqlite, ephemeral: accept }
policy:   p.yaml
tls:      { intercept: none, never: ["*.Bank.example", "10.0.0.1"], extra_roots: [roots/corp.pem] }
agents:   { tokens: "file:secrets/agents.yaml" }
signer:   { local: { key: env:K } }
upstream: { allow_private: true, allow_cidrs: [10.0.0.0/8], replay_limit: 1MiB, replay_memory: 2MiB, replay_disk: 0, proxy: "http://10.0.0.9:3128", no_proxy: [.corp.example, 10.0.0.0/8], connect: 1s, first_byte: 2m, idle: 1h }
limits:   { connections: 10, agent_connections: 5, requests: 20, agent_requests: 7, header: 16KiB, seller_header: 32KiB, body: 1GiB, idle: 1m, challenge: 32KiB, challenge_time: 500ms, identical: 3 }
drain:    { unpaid: 0s, paid: 1s }
metrics:  { agents: all }
access_log: json
"#,
    )
    .unwrap();
    assert_eq!(c.listen.admin, None);
    assert_eq!(c.state, Path::new("/etc/tollpass/state"));
    assert_eq!(c.tls.never, ["*.bank.example", "10.0.0.1"]);
    assert_eq!(c.tls.extra_roots, [PathBuf::from("/etc/tollpass/roots/corp.pem")]);
    assert_eq!(c.agents.tokens.as_deref(), Some(Path::new("/etc/tollpass/secrets/agents.yaml")));
    assert!(c.upstream.allow_cidrs[0].contains("10.1.1.1".parse().unwrap()));
    assert_eq!((c.upstream.replay_disk, c.limits.challenge_time), (0, Duration::from_millis(500)));
    assert_eq!((c.limits.agent_connections, c.limits.requests, c.limits.agent_requests), (5, 20, 7));
    assert_eq!((c.limits.seller_header, c.limits.body, c.limits.idle.as_secs()), (32 << 10, 1 << 30, 60));
    let parent = c.upstream.parent.unwrap();
    assert_eq!((parent.host.to_string().as_str(), parent.port, parent.no_proxy.len()), ("10.0.0.9", 3128, 2));
    assert_eq!(c.access_log, AccessFormat::Json);
    assert!(c.metrics.all_agents && c.ledger.ephemeral_ok && c.upstream.allow_private);
}

#[test]
fn mistakes_name_line_column_and_the_way_out() {
    let table = [
        (
            "listen: { proxi: 127.0.0.1:1 }",
            "tollpass.yaml:4:11: unknown key `proxi` in `listen`: did you mean `proxy`? Known here: proxy, admin, health, https, socks, transparent",
        ),
        (
            "limit: {}",
            "tollpass.yaml:4:1: unknown key `limit`: did you mean `limits`? Known here: version, listen, state, ledger, policy, policy_keys, tls, agents, signer, transparent, upstream, limits, drain, metrics, access_log",
        ),
        ("drain: { whatever: 1s }", "tollpass.yaml:4:10: unknown key `whatever` in `drain`: write `unpaid` or `paid`"),
        ("listen: { transparent: 15001 }", "tollpass.yaml:4:24: `transparent`: write an IP address and port such as 127.0.0.1:15001"),
        (
            "listen: { socks: \"0.0.0.0:1080\" }",
            "tollpass.yaml:4:18: `listen.socks` is reachable from other hosts, so anyone there could spend: set `agents.tokens: file:PATH`, or listen on 127.0.0.1",
        ),
        ("transparent: { unnamed: pass }", "tollpass.yaml:4:25: `unnamed`: write `refuse` or `relay`"),
        ("upstream: { http2: yes }", "tollpass.yaml:4:20: `http2`: write `auto` or `never`"),
        ("chains: {}", "tollpass.yaml:4:1: `chains` is not in this version of tollpass: remove it"),
        ("admin: { tokens: x }", "tollpass.yaml:4:18: `tokens`: tokens live in a file of their own: write file:secrets/operators.yaml"),
        (
            "admin: { public_url: \"https://ops.example\" }",
            "tollpass.yaml:4:10: nobody could decide there: set `admin.tokens: file:PATH` beside `admin.public_url`",
        ),
        (
            "admin: { tokens: file:o.yaml, public_url: \"http://ops.example\" }",
            "tollpass.yaml:4:43: `public_url`: write https://HOST or https://HOST:PORT, without a path; http only for this machine",
        ),
        ("ledger: { store: postgres }", "tollpass.yaml:4:18: `store`: `postgres` is not in this version of tollpass: write sqlite"),
        ("ledger: { ephemeral: yes }", "tollpass.yaml:4:22: `ephemeral`: write `refuse` or `accept`"),
        (
            "upstream: { proxy: http://p }",
            "tollpass.yaml:4:20: `upstream.proxy`: write http://HOST:PORT, or env:NAME or file:PATH where there are credentials",
        ),
        (
            "upstream: { proxy: \"http://u:hunter2@p:1\" }",
            "tollpass.yaml:4:20: `upstream.proxy`: credentials are never written into this file: write env:NAME or file:PATH, which hold the whole URL",
        ),
        (
            "upstream: { no_proxy: [a.example] }",
            "tollpass.yaml:4:13: `upstream.no_proxy` has no effect without `upstream.proxy`: remove it",
        ),
        (
            "upstream: { proxy: \"http://p:1\", no_proxy: [\"a.*\"] }",
            "tollpass.yaml:4:45: `no_proxy`: write a host name, .name for every name below it, or a range such as 10.0.0.0/8",
        ),
        ("access_log: yes", "tollpass.yaml:4:13: `access_log`: write `off`, `text` or `json`"),
        (
            "upstream: { connect: 5 }",
            "tollpass.yaml:4:22: `connect`: 5 has no unit: write a whole number with a unit, such as 250ms, 5s, 15m or 2h",
        ),
        ("upstream: { connect: 0s }", "tollpass.yaml:4:22: `connect`: must be longer than nothing"),
        ("upstream: { replay_limit: 16MB }", "tollpass.yaml:4:27: `replay_limit`: write 16MiB"),
        (
            "upstream: { allow_cidrs: [10.0.0.0/8, 10.0.0.1/8] }",
            "tollpass.yaml:4:39: `allow_cidrs`: the address has bits below the mask: write 10.0.0.0/8",
        ),
        ("upstream: { allow_cidrs: 10.0.0.0/8 }", "tollpass.yaml:4:26: `allow_cidrs`: write a list such as [a, b], not text"),
        ("upstream: { allow_private: yes }", "tollpass.yaml:4:28: `allow_private`: write true or false"),
        ("limits: { header: 4KiB }", "tollpass.yaml:4:19: `header`: write a size from 8KiB to 1024KiB"),
        (
            "limits: { body: 10 }",
            "tollpass.yaml:4:17: `body`: 10 has no unit: write a whole number with a unit, such as 64KiB or 16MiB, or none",
        ),
        ("limits: { agent_requests: none }", "tollpass.yaml:4:27: `agent_requests`: write a whole number from 1 to 10000000"),
        ("limits: { connections: 0 }", "tollpass.yaml:4:24: `connections`: write a whole number from 1 to 1000000"),
        ("limits: { connections: 1.5 }", "tollpass.yaml:4:24: `connections`: write a whole number from 1 to 1000000"),
        ("tls: { never: [\"*.*.x\"] }", "tollpass.yaml:4:16: `never`: write a host name, an address, or *.name for every name below it"),
        ("tls: { intercept: some }", "tollpass.yaml:4:19: `intercept`: write `allowed`, `all` or `none`"),
        ("listen: { proxy: localhost:8402 }", "tollpass.yaml:4:18: `proxy`: write an IP address and port such as 127.0.0.1:8402"),
        (
            "listen: { admin: \"0.0.0.0:9402\" }",
            "tollpass.yaml:4:11: `listen.admin` must be a loopback address such as 127.0.0.1:9402; for probes and scrapes from other hosts set `listen.health`",
        ),
        (
            "listen: { proxy: \"0.0.0.0:8402\" }",
            "tollpass.yaml:4:18: `listen.proxy` is reachable from other hosts, so anyone there could spend: set `agents.tokens: file:PATH`, or listen on 127.0.0.1",
        ),
        (
            "listen: { admin: 127.0.0.1:8402 }",
            "tollpass.yaml:4:11: `listen.admin` is the same address as `listen.proxy`: give each its own port",
        ),
        ("policy: [a]", "tollpass.yaml:4:9: `policy`: write a path, not a list"),
        ("metrics: [a]", "tollpass.yaml:4:10: metrics must be a section with `agents`, not a list"),
        ("state: a\nstate: b", "tollpass.yaml:5:1: not valid YAML: duplicate mapping key"),
        ("state: [a", "tollpass.yaml:4:8: not valid YAML"),
        ("x: &a {b: c}\nlisten: { <<: *a }", "tollpass.yaml:5:11: not valid YAML"),
    ];
    for (text, expected) in table {
        let found = mistake(text);
        assert!(found.starts_with(expected), "{text}\n  expected {expected}\n  found    {found}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_file_order() {
    let error = parse("listen: { prox: 1 }\ndrain: { paid: 1 }\n").unwrap_err();
    let lines: Vec<_> = error.0.iter().map(|p| p.place.unwrap().0).collect();
    assert_eq!(lines, [1, 1, 1, 1, 2], "{error}");
    assert!(error.to_string().contains("`version` is missing"));
    assert!(error.to_string().contains("nobody can call"));
    assert!(error.to_string().contains("`signer` is missing"));
    for text in ["", "# nothing\n", "5", "- a"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn secrets_come_from_outside_and_never_show() {
    let with = |signer: &str| parse(&format!("version: 1\nagents: {{ default: a }}\nsigner: {signer}\n"));
    let shown = |signer: &str| with(signer).unwrap_err().to_string().replace("/etc/tollpass/", "");
    assert!(!format!("{:?}", with("{ local: { key: env:K } }").unwrap()).contains("59c6"));
    let inline = "tollpass.yaml:3:25: `signer.local.key`: a secret is never written into this file: write env:NAME or file:PATH";
    for key in [KEY, &KEY[2..], &format!("\"{KEY}\""), "12345"] {
        assert_eq!(shown(&format!("{{ local: {{ key: {key} }} }}")), inline);
    }
    for wrong in [
        KEY.to_owned(),
        format!("{{ local: {KEY} }}"),
        format!("{{ local: [{KEY}] }}"),
        format!("{{ local: {{ key: \"{KEY} }} }}"),
        format!("{{ local: {{ key: env:{KEY}-x }} }}"),
        format!("{{ local: {{ key: \"env:{}\" }} }}", &KEY[2..]),
        format!("{{ local: {{ key: \"x:{}\" }} }}", &KEY[2..]),
    ] {
        assert!(!shown(&wrong).contains("59c6995e"), "{wrong}: {}", shown(&wrong));
    }
    assert!(shown("{ local: { key: env:NOPE } }").ends_with("the environment variable NOPE is not set"));
    let half = shown("{ mpc: { wallet: w1 } }");
    for key in ["share", "unseal", "identity", "cosigner", "pin"] {
        assert!(half.contains(&format!("`{key}` is missing")), "{half}");
    }
    assert!(shown("{ gateway: x }").starts_with("tollpass.yaml:3:11: `signer.gateway` is not in this version"));
}

#[test]
fn the_parents_credentials_come_from_outside_and_never_show() {
    let with = |url: &str| {
        let text = format!("{SMALLEST}upstream: {{ proxy: env:PARENT }}\n");
        Config::parse(Path::new("t.yaml"), &text, &|name| Some(if name == "K" { KEY.into() } else { url.to_owned() }))
    };
    let parent = with("http://bot:hunter2@proxy.example:3128").unwrap().upstream.parent.unwrap();
    assert_eq!(parent.credentials.as_ref().unwrap().expose(), "bot:hunter2");
    assert!(!format!("{parent:?}").contains("hunter2"));
    for bad in ["http://hunter2@proxy.example:1", "hunter2", "http://bot:hunter2@proxy.example"] {
        let error = with(bad).unwrap_err().to_string();
        assert!(error.contains("upstream.proxy") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_secret_file_must_be_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let load = || {
        let text = "version: 1\nagents: { default: a }\nsigner: { local: { key: file:key } }\n";
        Config::parse(&dir.path().join("tollpass.yaml"), text, &|_| None)
    };
    for (mode, ok) in [(0o644, false), (0o604, false), (0o440, true), (0o400, true)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load().is_ok(), ok, "{mode:o}");
    }
    let SignerConfig::Local { key: secret } = load().unwrap().signer else { panic!("another signer") };
    assert_eq!(secret.expose(), KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, "not a key").unwrap();
    assert!(load().unwrap_err().to_string().contains("64 hex digits"));
}

#[test]
fn inspecting_needs_no_secret_but_still_refuses_an_inline_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tollpass.yaml");
    for (key, ok) in [("env:NOT_SET_ANYWHERE", true), ("file:none", true), ("abc", false), ("env:", false)] {
        std::fs::write(&file, SMALLEST.replace("env:K", key)).unwrap();
        assert_eq!(Config::inspect(&file).is_ok(), ok, "{key}");
    }
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    assert!(Config::load(Path::new("nowhere/tollpass.yaml")).unwrap_err().to_string().contains("`tollpass init` writes one"));
}

#[test]
fn a_threshold_signer_is_read_whole_and_its_mistakes_are_named() {
    let pin = "ab".repeat(32);
    let good = format!(
        "{{ mpc: {{ wallet: w1, share: file:s/share, unseal: \"exec:/bin/kms get w1\", identity: file:s/id, pin: {pin}, cosigner: \"https://cs:7402\", accept_unreviewed_presign: true }} }}"
    );
    let with = |signer: &str| parse(&format!("version: 1\nagents: {{ default: a }}\nsigner: {signer}\n"));
    let SignerConfig::Mpc(mpc) = with(&good).unwrap().signer else { panic!("another signer") };
    assert_eq!(mpc.share, Path::new("/etc/tollpass/s/share"));
    assert_eq!((mpc.cosigner.as_str(), mpc.deadline, mpc.pool), ("cs:7402", Duration::from_secs(2), 32));
    assert!(matches!(&mpc.unseal, crate::custody::Unseal::Exec(argv) if argv.len() == 3));
    for (from, to, says) in [
        ("https://cs:7402", "http://cs:7402", "write https://HOST:PORT"),
        ("https://cs:7402", "https://cs", "write https://HOST:PORT"),
        (", accept_unreviewed_presign: true", ", pool: 8", "no cryptographer has reviewed"),
        ("exec:/bin/kms get w1", "hunter2", "write env:NAME, file:PATH or exec:PROGRAM"),
        (&pin, "abc", "not a fingerprint"),
        ("wallet: w1", "wallet: \"w 1\"", "not a name"),
        ("pin:", "ca: file:x, pin:", "keep one"),
    ] {
        let error = with(&good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hunter2"), "{to}: {error}");
    }
}

#[test]
fn the_public_url_is_an_origin_as_browsers_write_it() {
    let read = |url: &str| {
        let text = format!(
            "version: 1\nagents: {{ default: a }}\nsigner: {{ local: {{ key: env:K }} }}\nadmin: {{ tokens: file:o.yaml, public_url: \"{url}\" }}\n"
        );
        Config::parse(Path::new("tollpass.yaml"), &text, &|_| Some("11".repeat(32))).ok()?.admin.public_url
    };
    for (url, origin) in [
        ("https://Ops.Example/", Some("https://ops.example")),
        ("https://ops.example:443", Some("https://ops.example")),
        ("https://ops.example:8443", Some("https://ops.example:8443")),
        ("http://127.0.0.1:9402", Some("http://127.0.0.1:9402")),
        ("http://[::1]:9402", Some("http://[::1]:9402")),
        ("http://10.0.0.1", None),
        ("https://ops.example/approve", None),
        ("https://a@ops.example", None),
        ("https://", None),
        ("ops.example", None),
    ] {
        assert_eq!(read(url).as_ref().map(crate::config::Origin::as_str), origin, "{url}");
    }
    assert_eq!(read("https://ops.example:8443").unwrap().authority(), "ops.example:8443");
}
