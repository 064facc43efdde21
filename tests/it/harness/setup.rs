//! What a program of a test is started with: its configuration, policy and further files.

use std::path::Path;

/// What to write into the files. Every part has a default that pays generously on loopback.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where the proxy listens.
    pub(crate) proxy: String,
    /// Further keys of `listen`, after a comma.
    pub(crate) listen: String,
    /// Inside of `tls: { … }`.
    pub(crate) tls: String,
    /// Inside of `agents: { … }`.
    pub(crate) agents: String,
    /// Inside of `signer: { … }`.
    pub(crate) signer: String,
    /// Inside of `upstream: { … }`.
    pub(crate) upstream: String,
    /// Inside of `limits: { … }`.
    pub(crate) limits: String,
    /// Inside of `drain: { … }`.
    pub(crate) drain: String,
    /// Further lines of the configuration.
    pub(crate) more: String,
    /// The policy file.
    pub(crate) policy: String,
    /// Path of the policy, as the configuration says it.
    pub(crate) policy_path: String,
    /// Environment variables.
    pub(crate) env: Vec<(String, String)>,
    /// Further files of the folder.
    pub(crate) files: Vec<(String, String)>,
    /// PEM of roots to trust upstream.
    pub(crate) roots: Option<String>,
    /// Arguments after `serve --config F --json`.
    pub(crate) args: Vec<String>,
}

impl Setup {
    /// One agent `bot`, allowed to buy from loopback sellers.
    pub(crate) fn new() -> Self {
        Self {
            proxy: "127.0.0.1:0".into(),
            listen: String::new(),
            tls: "intercept: allowed".into(),
            agents: "default: bot".into(),
            signer: "local: { key: env:TOLLPASS_DEV_KEY }".into(),
            upstream: "allow_private: true".into(),
            limits: String::new(),
            drain: String::new(),
            more: String::new(),
            policy: Self::policy_with("per_payment: 5, day: 1000", "", ""),
            policy_path: "policy.yaml".into(),
            env: Vec::new(),
            files: Vec::new(),
            roots: None,
            args: Vec::new(),
        }
    }

    /// The default policy with other `caps`, further keys of its one allow entry (`, max: 1`) and further lines under the
    /// agent (four blanks deep).
    pub(crate) fn policy_with(caps: &str, entry: &str, lines: &str) -> String {
        let first = "      - { id: local, host: [localhost, 127.0.0.1], networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, plain_http: true";
        // Sellers that fail are what many tests are about; tests/it/risk.rs has the breakers on.
        let risk = "risk: { paid_but_failed: off, retry_loop: off }";
        format!("version: 1\n{risk}\nagents:\n  bot:\n    caps: {{ {caps} }}\n    allow:\n{first}{entry} }}\n{lines}")
    }

    pub(crate) fn caps(mut self, caps: &str) -> Self {
        self.policy = Self::policy_with(caps, "", "");
        self
    }

    pub(crate) fn policy(mut self, text: impl Into<String>) -> Self {
        self.policy = text.into();
        self
    }

    pub(crate) fn tls(mut self, text: &str) -> Self {
        self.tls = text.into();
        self
    }

    pub(crate) fn agents(mut self, text: &str) -> Self {
        self.agents = text.into();
        self
    }

    /// Further listeners on ports of their own.
    pub(crate) fn listen(mut self, keys: &[&str]) -> Self {
        self.listen = keys.iter().map(|key| format!(", {key}: 127.0.0.1:0")).collect();
        self
    }

    #[cfg(feature = "failpoints")]
    pub(crate) fn signer(mut self, text: &str) -> Self {
        self.signer = text.into();
        self
    }

    /// Adds to the defaults.
    pub(crate) fn upstream(mut self, text: &str) -> Self {
        self.upstream = format!("{}, {text}", self.upstream);
        self
    }

    pub(crate) fn limits(mut self, text: &str) -> Self {
        self.limits = text.into();
        self
    }

    pub(crate) fn drain(mut self, text: &str) -> Self {
        self.drain = text.into();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn file(mut self, name: &str, content: impl Into<String>) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    pub(crate) fn roots(mut self, pem: &str) -> Self {
        self.roots = Some(pem.into());
        self
    }

    pub(super) fn write(&self, dir: &Path) {
        let roots = if self.roots.is_some() { ", extra_roots: [roots.pem]" } else { "" };
        let Self { proxy, listen, tls, agents, upstream, limits, drain, more, policy_path, signer, .. } = self;
        let config = format!(
            "version: 1\nlisten: {{ proxy: {proxy}, admin: 127.0.0.1:0{listen} }}\nstate: state\nledger: {{ store: sqlite, ephemeral: accept }}\n\
             policy: {policy_path}\ntls: {{ {tls}{roots} }}\nagents: {{ {agents} }}\nsigner: {{ {signer} }}\n\
             upstream: {{ {upstream} }}\nlimits: {{ {limits} }}\ndrain: {{ {drain} }}\n{more}"
        );
        std::fs::write(dir.join("tollpass.yaml"), config).unwrap();
        if self.policy_path == "policy.yaml" {
            std::fs::write(dir.join("policy.yaml"), &self.policy).unwrap();
        }
        if let Some(pem) = &self.roots {
            std::fs::write(dir.join("roots.pem"), pem).unwrap();
        }
        for (name, content) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}
