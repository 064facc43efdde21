//! Signed policies: a change that lets more be paid takes effect only under a signature newer than every one before. Anybody who
//! may write the files can tighten; who may write them is not who may raise.
//!
//! What is compared with is the policy that took effect last, kept in the private state folder with the time of the newest signature:
//! so a restart changes nothing, and an old signed file that is put back is as good as unsigned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::payment::Timestamp;
use crate::policy::{Looser, Policy, PolicyErrors, PolicyKey, Source, check_sums, signed_at};

/// The list of digests that is signed where a policy has several files.
const SUMS: &str = "SHA256SUMS";
/// How a signature's file is named after what is signed.
const END: &str = ".minisig";
/// What took effect last, in the private state folder.
const ACCEPTED: &str = "policy.accepted";
/// Larger files beside a policy are no signatures and no lists.
const MAX_BESIDE: u64 = 256 << 10;
/// How far a signer's clock may be ahead of ours: one that is would shut out every signature until then.
const AHEAD_SECS: i64 = 3600;

/// Who may loosen a policy, and where it stands what took effect last.
#[derive(Clone, Debug)]
pub struct Signing {
    keys: Vec<PolicyKey>,
    accepted: PathBuf,
    parse: fn(&[Source], u64) -> Result<Policy, PolicyErrors>,
}

/// The policy that took effect last.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    version: u32,
    /// When, for people.
    at: String,
    /// The newest signature that was ever accepted, Unix seconds.
    signed: i64,
    files: Vec<Kept>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: String,
    text: String,
}

impl Kept {
    fn of(sources: &[Source]) -> Vec<Self> {
        sources.iter().map(|s| Self { name: s.file_name().to_owned(), text: s.text.clone() }).collect()
    }
}

/// What has to be written before a policy may take effect.
#[derive(Debug)]
pub struct Admitted(Option<Accepted>);

impl Signing {
    /// With the keys of the configuration and the private state folder; `None` without keys: nothing has to be signed.
    pub fn new(keys: &[PolicyKey], private: &Path) -> Option<Self> {
        (!keys.is_empty()).then(|| Self { keys: keys.to_vec(), accepted: private.join(ACCEPTED), parse: Policy::parse })
    }

    /// The same for a co-signer's policy.
    #[must_use]
    pub fn of_cosigner(self) -> Self {
        Self { parse: Policy::parse_for_cosigner, ..self }
    }

    /// Whether `policy`, which is `sources` in the file or folder `path`, may take effect at `now`.
    ///
    /// # Errors
    /// Lines for the operator: what is looser, and what is wrong with the signature.
    pub fn admits(
        &self,
        path: &Path,
        policy: &Policy,
        sources: &[Source],
        beside: &[Source],
        now: Timestamp,
    ) -> Result<Admitted, Vec<String>> {
        let before = self.read().map_err(|line| vec![line])?;
        let unchanged = before.as_ref().is_some_and(|b| b.files == Kept::of(sources));
        let last = before.as_ref().map(|b| Timestamp::from_secs(b.signed));
        let signed = self.signature(path, sources, beside, last, now);
        if let Err(why) = &signed {
            if unchanged {
                return Ok(Admitted(None));
            }
            self.only_tighter(policy, sources, before.as_ref(), path, why)?;
        }
        let newest = signed.ok().max(last).unwrap_or_default().secs();
        Ok(Admitted(Some(Accepted { version: 1, at: now.rfc3339(), signed: newest, files: Kept::of(sources) })))
    }

    /// Writes down what takes effect now; nothing does without.
    ///
    /// # Errors
    /// I/O, as a line for the operator.
    pub fn accept(&self, admitted: Admitted) -> Result<(), Vec<String>> {
        let Admitted(Some(accepted)) = admitted else { return Ok(()) };
        write(&self.accepted, &accepted).map_err(|e| vec![format!("{}: cannot be written: {e}", self.accepted.display())])
    }

    /// When the policy in the file or folder `path` was signed.
    ///
    /// # Errors
    /// Why it counts as unsigned, as a line for the operator.
    pub fn signed(&self, path: &Path, sources: &[Source], now: Timestamp) -> Result<Timestamp, String> {
        let signed = self.signature(path, sources, &beside(path, sources), None, now);
        signed.map_err(|why| format!("{why}; {}", how(path, sources)))
    }

    fn only_tighter(
        &self,
        policy: &Policy,
        sources: &[Source],
        before: Option<&Accepted>,
        path: &Path,
        why: &str,
    ) -> Result<(), Vec<String>> {
        let unsigned = format!("{why}; {}", how(path, sources));
        let Some(before) = before else {
            let first = format!("{}: the first policy needs a signature (`policy_keys`): none was accepted before", path.display());
            return Err(vec![first, unsigned]);
        };
        let kept = format!("the policy accepted on {} is kept in {}", before.at, self.accepted.display());
        let old: Vec<Source> = before.files.iter().map(|f| Source { name: f.name.clone(), text: f.text.clone() }).collect();
        let Ok(old) = (self.parse)(&old, 0) else {
            let text = format!("{}: {kept}, and this version does not read it: nothing can be compared with it", path.display());
            return Err(vec![text, unsigned]);
        };
        let looser = policy.looser_than(&old);
        let Some(first) = looser.first() else { return Ok(()) };
        let more = if looser.len() > 1 { format!(" (and {} more)", looser.len() - 1) } else { String::new() };
        let shown = Looser::shown_in(first, sources);
        Err(vec![format!("{shown}{more}: what lets more be paid needs a signature"), unsigned, kept])
    }

    /// When the policy was signed; newer than `last`, or the reason why that is not so.
    fn signature(
        &self,
        path: &Path,
        sources: &[Source],
        beside: &[Source],
        last: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Timestamp, String> {
        let find = |name: &str| beside.iter().find(|s| s.name == name);
        let own = sources.first().filter(|_| sources.len() == 1);
        let own = own.and_then(|source| Some((source, find(&format!("{}{END}", source.name))?)));
        let sums = name_in(path, SUMS);
        let (content, signature) = match (own, find(&sums), find(&format!("{sums}{END}"))) {
            (Some((source, signature)), ..) => (source, signature),
            (None, Some(list), Some(signature)) => (list, signature),
            (None, ..) => return Err(format!("{}: there is no signature", path.display())),
        };
        let fault = |why: String| format!("{}: the signature {why}", signature.name);
        let at = signed_at(&self.keys, &content.text, &signature.text).map_err(fault)?;
        if own.is_none() {
            check_sums(&content.text, sources).map_err(|why| format!("{}: {why}", content.name))?;
        }
        if at > now.plus_secs(AHEAD_SECS) {
            return Err(fault(format!("is from {}, which is yet to come: set the signer's clock and sign again", at.rfc3339())));
        }
        match last {
            Some(last) if at <= last => Err(fault(format!(
                "is from {}, and one from {} was accepted: an old policy that is put back has to be signed again",
                at.rfc3339(),
                last.rfc3339()
            ))),
            _ => Ok(at),
        }
    }

    fn read(&self) -> Result<Option<Accepted>, String> {
        let fault = |e: &dyn std::fmt::Display| {
            let path = self.accepted.display();
            format!("{path}: cannot be read: {e}; restore it, or remove it and sign the policy")
        };
        let text = match fs::read_to_string(&self.accepted) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| fault(&e))?,
        };
        let accepted: Accepted = serde_json::from_str(&text).map_err(|e| fault(&e))?;
        if accepted.version == 1 { Ok(Some(accepted)) } else { Err(fault(&"another version of tollpass wrote it")) }
    }
}

/// What signs these files.
fn how(path: &Path, sources: &[Source]) -> String {
    match sources {
        [only] => format!("sign with: minisign -S -s KEY -m {}", only.name),
        _ => {
            let lists = if sources.iter().any(|s| s.name.ends_with(".payees")) { " *.payees" } else { "" };
            let (folder, files) = match path.file_name().filter(|_| !path.is_dir()) {
                Some(name) => (path.parent().unwrap_or(path), name.to_string_lossy().into_owned()),
                None => (path, "*.yaml".to_owned()),
            };
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            format!("sign with: cd {} && sha256sum {files}{lists} > {SUMS} && minisign -S -s KEY -m {SUMS}", folder.display())
        }
    }
}

/// `name` in the folder of the policy `path`.
fn name_in(path: &Path, name: &str) -> String {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    folder.join(name).display().to_string()
}

/// What may be a signature of the policy at `path`, or the list that is signed; what is not there is left out.
pub fn beside(path: &Path, sources: &[Source]) -> Vec<Source> {
    let sums = name_in(path, SUMS);
    let own = sources.first().filter(|_| sources.len() == 1).map(|source| format!("{}{END}", source.name));
    own.into_iter().chain([format!("{sums}{END}"), sums]).filter_map(read_small).collect()
}

fn read_small(name: String) -> Option<Source> {
    if fs::metadata(&name).ok()?.len() > MAX_BESIDE {
        return None;
    }
    let text = String::from_utf8_lossy(&fs::read(&name).ok()?).into_owned();
    Some(Source { name, text })
}

/// All or nothing, and on the disk when this returns.
fn write(path: &Path, accepted: &Accepted) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(accepted).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
