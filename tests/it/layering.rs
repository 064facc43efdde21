//! The layer rule (ARCHITECTURE.md): one line, nothing points back, and each outside crate has its one place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the crate may name of the others. `cli` may name anything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("payment", &[]),
    ("protocol", &["payment"]),
    ("policy", &["payment", "spelling"]),
    ("ledger", &["failpoint", "policy", "payment"]),
    ("signer", &["clock", "crew", "custody", "failpoint", "ledger", "metrics", "mpc", "payment", "wire"]),
    ("treasurer", &["clock", "failpoint", "journal", "ledger", "metrics", "payment", "policy", "protocol", "records", "signer", "stops"]),
    ("records", &["ledger", "metrics", "payment", "policy"]),
    (
        "proxy",
        &[
            "agents",
            "clock",
            "config",
            "failpoint",
            "ledger",
            "metrics",
            "net",
            "payment",
            "policy",
            "protocol",
            "signer",
            "telemetry",
            "treasurer",
        ],
    ),
    ("admin", &["config", "metrics", "net", "payment"]),
    ("agents", &["config", "payment"]),
    ("ceremony", &["clock", "custody", "failpoint", "mpc", "payment", "wire"]),
    ("clock", &["ledger", "payment"]),
    // The way to a share's passphrase is a value of the configuration.
    ("config", &["custody", "mpc", "payment", "policy", "spelling"]),
    ("crew", &[]),
    ("custody", &["config", "failpoint", "mpc", "payment"]),
    ("spelling", &[]),
    ("failpoint", &[]),
    ("journal", &[]),
    ("metrics", &["payment"]),
    ("net", &[]),
    ("notify", &["net", "payment"]),
    ("wire", &["clock", "mpc", "payment"]),
    ("reload", &["admin", "agents", "metrics", "payment", "policy"]),
    ("state", &["config"]),
    ("stops", &["ledger", "metrics", "payment", "policy"]),
    ("telemetry", &["metrics", "payment", "policy"]),
    (
        "app",
        &[
            "admin",
            "agents",
            "clock",
            "config",
            "crew",
            "custody",
            "ledger",
            "metrics",
            "mpc",
            "net",
            "notify",
            "payment",
            "policy",
            "proxy",
            "records",
            "reload",
            "signer",
            "state",
            "stops",
            "telemetry",
            "treasurer",
            "wire",
        ],
    ),
    (
        "cosigner",
        &[
            "admin",
            "clock",
            "config",
            "crew",
            "custody",
            "failpoint",
            "ledger",
            "metrics",
            "mpc",
            "net",
            "payment",
            "policy",
            "protocol",
            "reload",
            "state",
            "stops",
            "wire",
        ],
    ),
    ("demo", &["app", "clock", "config", "ledger", "net", "payment"]),
];

/// Outside names, and the only places that may use them.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["hyper", "hyper_util", "http_body_util"], &["src/net", "src/proxy", "src/wire/link"]),
    (&["tower"], &["src/proxy"]),
    (&["rusqlite"], &["src/ledger/store", "src/cosigner/store"]),
    (&["prometheus"], &["src/metrics"]),
    (&["notify"], &["src/reload"]),
    (
        &["rustls", "tokio_rustls"],
        &[
            "src/net/tls.rs",
            "src/proxy/tls.rs",
            "src/proxy/trust.rs",
            "src/proxy/upstream.rs",
            "src/proxy/sniff.rs",
            "src/proxy/stream.rs",
            "src/proxy/tunnel.rs",
            "src/wire/tls.rs",
            "src/wire/certificate.rs",
            "src/ceremony/seal.rs",
        ],
    ),
    (&["minisign_verify"], &["src/policy/signature.rs"]),
    (&["yasna"], &["src/proxy/truststore.rs"]),
    (&["rcgen"], &["src/proxy/tls.rs", "src/wire/identity.rs"]),
    (&["DefinitelyUnsigned::attest"], &["src/signer", "src/ledger/commitment.rs"]),
    (&["k256"], &["src/demo", "src/payment/offer_key.rs"]),
    (&["secp256k1"], &["src/signer/local.rs"]),
    // S4: who may say that something is so, or proven, and the one way to an approval of a co-signer.
    (&["Fact::new"], &["src/cosigner/facts.rs", "src/cosigner/judge.rs"]),
    (&["Proven::new"], &["src/cosigner/offer.rs", "src/cosigner/probe.rs", "src/cosigner/grant.rs", "src/cosigner/judge.rs"]),
    (&["Selection"], &["src/policy", "src/cosigner/trust.rs"]),
    (&["dkls23", "dkls23_core", "dkls23_secp256k1", "k256_dkls"], &["src/mpc"]),
    (&["argon2", "chacha20poly1305"], &["src/custody/seal.rs"]),
];

/// Layers of arithmetic: time and random bytes are arguments there, and nothing waits.
const PURE: &[&str] = &["src/payment", "src/protocol", "src/policy", "src/ledger"];
const IMPURE_PART: &str = "src/ledger/store";
const NOT_PURE: &[&str] =
    &["tokio", "hyper", "tower", "rand", "tracing", "SystemTime", "Instant::now", "Utc::now", "Timestamp::now", "Zoned::now"];

/// One source file without comments and tests.
struct File {
    path: String,
    code: String,
}

fn sources() -> Vec<File> {
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.into_iter().map(|path| read(&path)).filter(|file| !is_test(&file.path)).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_test.rs") || path.contains("/tests/")
}

fn read(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap();
    let mut code = String::new();
    for line in text.lines().take_while(|line| line.trim() != "#[cfg(test)]") {
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
    File { path, code }
}

impl File {
    /// The module of the crate it belongs to.
    fn module(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap();
        rest.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|p| self.path == *p || self.path.starts_with(&format!("{p}/")) || self.path == format!("{p}.rs"))
    }

    /// Is `name` used as a path, such as `name::x` or `use name;`?
    fn names(&self, name: &str) -> bool {
        self.code.match_indices(name).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = &self.code[at + name.len()..];
            let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.') && !self.code[..at].ends_with("crate::");
            let whole = after.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            starts
                && whole
                && (name.contains("::") || name.starts_with(char::is_uppercase) || after.starts_with("::") || self.imports(name))
        })
    }

    fn imports(&self, name: &str) -> bool {
        self.code.lines().any(|l| l.trim() == format!("use {name};") || l.trim().starts_with(&format!("use {name} as ")))
    }

    /// Every `crate::x`, also inside `crate::{x, y::z}`.
    fn uses(&self) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            if self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &self.code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(roots(group)),
                None => used.extend(first_word(rest)),
            }
        }
        used
    }
}

fn first_word(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

/// First words of the members of an import group.
fn roots(group: &str) -> Vec<&str> {
    let (mut depth, mut member, mut found) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => member = true,
            c if member && !c.is_whitespace() => {
                member = false;
                found.extend(first_word(&group[at..]));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn nothing_points_back() {
    for file in sources() {
        let module = file.module();
        // `mpc` is a package of its own: its manifest says what it can use.
        if matches!(module, "cli" | "lib" | "main" | "mpc") {
            continue;
        }
        let (_, allowed) = MAY_USE.iter().find(|(m, _)| *m == module).unwrap_or_else(|| panic!("{module}: give it a row in MAY_USE"));
        for used in file.uses() {
            assert!(used == module || allowed.contains(&used), "{} uses crate::{used}, which {module} must not know", file.path);
        }
    }
}

#[test]
fn the_signing_core_is_built_on_nothing_of_ours() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mpc/Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
    assert!(!dependencies.contains("path =") && !dependencies.contains("tollpass"), "{dependencies}");
}

#[test]
fn every_outside_crate_has_its_place() {
    for file in sources() {
        for (names, places) in ONLY_IN {
            for name in *names {
                assert!(file.is_in(places) || !file.names(name), "{} uses {name}, which belongs in {places:?}", file.path);
            }
        }
    }
}

#[test]
fn the_pure_layers_have_no_clock_no_runtime_and_no_randomness() {
    for file in sources().iter().filter(|f| f.is_in(PURE) && !f.is_in(&[IMPURE_PART])) {
        for name in NOT_PURE {
            assert!(!file.names(name), "{} uses {name}; time and random bytes are arguments there", file.path);
        }
    }
}

#[test]
fn the_reader_of_paths_sees_what_it_should() {
    let file = File {
        path: "src/x/y.rs".into(),
        code: "use crate::{a::B, c::{D, E},\n f};\nuse tokio::sync;\npub(in crate::g) fn h() { crate::i::j(); other_crate::k(); my_rand::x(); Instant::now() }\n".into(),
    };
    assert_eq!(file.uses(), BTreeSet::from(["a", "c", "f", "g", "i"]));
    assert!(file.names("tokio") && file.names("Instant::now"));
    assert!(!file.names("rand") && !file.names("hyper"));
    assert_eq!(file.module(), "x");
}
