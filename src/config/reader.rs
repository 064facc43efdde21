//! What reading any of our start-up files needs: the tree, the folder, the environment, and the mistakes so far.

use std::path::{Path, PathBuf};

use super::Secret;
use super::tree::{At, Keys, Node, Problem, Problems, Section, Value, parse};
use super::value::secret_file;
use crate::policy::PolicyKey;

/// Looks up environment variables.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What reading needs beside the tree.
pub(crate) struct Reader<'a> {
    /// Folder of the file: where relative paths start.
    pub(crate) folder: PathBuf,
    /// Looks up environment variables; without it no secret is read.
    env: Option<Env<'a>>,
    /// What is wrong so far.
    pub(crate) problems: Problems,
}

impl<'a> Reader<'a> {
    /// Reads `text` as the content of `file` with `top`, which says what stands in it.
    pub(crate) fn read<T>(
        file: &Path,
        text: &str,
        env: Option<Env<'a>>,
        top: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Result<T, Vec<Problem>> {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        let mut r = Self { folder, env, problems: Problems::new(file.display().to_string()) };
        let value = parse(text, &mut r.problems).and_then(|tree| top(&mut r, &tree));
        match value {
            Some(value) if r.problems.is_empty() => Ok(value),
            _ => Err(r.problems.into_list()),
        }
    }

    /// The whole file, of version 1.
    pub(crate) fn file<'n>(&mut self, tree: &'n Node, keys: Keys) -> Section<'n> {
        let top = Section::open(tree, "", keys, &mut self.problems);
        match top.get("version") {
            None => self.problems.at(top.at, "`version` is missing: write `version: 1` first"),
            Some(node) if !matches!(node.value, Value::Int(1)) => self.problems.at(node.at, "this version of tollpass reads `version: 1`"),
            Some(_) => {}
        }
        top
    }

    /// The value of a key that must be there.
    pub(crate) fn need<T>(
        &mut self,
        s: &Section<'_>,
        key: &str,
        missing: &str,
        read: impl FnOnce(&Self, &Node) -> Result<T, String>,
    ) -> Option<T> {
        let Some(node) = s.get(key) else {
            self.problems.at(s.at, format!("`{key}` is missing: {missing}"));
            return None;
        };
        match read(self, node) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems.at(node.at, format!("`{key}`: {message}"));
                None
            }
        }
    }

    /// The section `key` of `top`, or an empty one.
    pub(crate) fn section<'n>(&mut self, top: &Section<'n>, key: &str, keys: Keys) -> Section<'n> {
        match top.get(key) {
            Some(node) => Section::open(node, key, keys, &mut self.problems),
            None => Section::open(&NOTHING, key, keys, &mut self.problems),
        }
    }

    /// A list whose items are read one by one, so that each mistake has its own place.
    pub(crate) fn list<T>(&mut self, s: &Section<'_>, key: &str, read: impl Fn(&Node) -> Result<T, String>) -> Vec<T> {
        let Some(node) = s.get(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.problems.at(node.at, format!("`{key}`: write a list such as [a, b], not {}", node.shape()));
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in items {
            match read(item) {
                Ok(v) => out.push(v),
                Err(message) => self.problems.at(item.at, format!("`{key}`: {message}")),
            }
        }
        out
    }

    /// `policy_keys`: public keys of minisign, of those who may loosen the policy.
    pub(crate) fn policy_keys(&mut self, top: &Section<'_>) -> Vec<PolicyKey> {
        let read = |node: &Node| super::scalar::text(node)?.parse::<PolicyKey>().map_err(|e| e.to_string());
        let keys = self.list(top, "policy_keys", read);
        if let Some(Node { at, value: Value::List(items) }) = top.get("policy_keys")
            && items.is_empty()
        {
            self.problems.at(*at, "`policy_keys`: nobody could sign: name a key, or remove the line if nothing has to be signed");
        }
        keys
    }

    /// `env:NAME` or `file:PATH`, then `check`. Messages never contain the text: it may be the secret itself.
    pub(crate) fn secret(&self, node: &Node, check: fn(Secret) -> Result<Secret, String>) -> Result<Secret, String> {
        let inline = || "a secret is never written into this file: write env:NAME or file:PATH".to_owned();
        let Value::Text(given) = &node.value else { return Err(inline()) };
        let (kind, rest) = given.split_once(':').ok_or_else(inline)?;
        let found = match kind {
            "env" if !env_name(rest) => return Err("env: needs the name of an environment variable, such as env:TOLLPASS_DEV_KEY".into()),
            "env" | "file" if !rest.is_empty() => {
                let Some(env) = self.env else { return Ok(Secret::new("")) };
                match kind {
                    "env" => env(rest)
                        .filter(|v| !v.is_empty())
                        .map(Secret::new)
                        .ok_or_else(|| format!("the environment variable {rest} is not set"))?,
                    _ => secret_file(&self.folder.join(rest))?,
                }
            }
            _ => return Err(inline()),
        };
        check(found)
    }
}

/// Shorter than a key in hex, which must not be echoed.
fn env_name(text: &str) -> bool {
    !text.is_empty() && text.len() < 60 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

static NOTHING: Node = Node { at: At { line: 1, column: 1 }, value: Value::Null };
