//! A signature over policy files, in the format of minisign: made by that tool and read by it.
//!
//! One signature covers the whole policy. With more files than one it stands under the list of their digests, as `sha256sum` writes
//! it: signatures of single files would let an old file be put back beside new ones, or one be left out.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{Error, PublicKey, Signature};
use sha2::{Digest as _, Sha256};

use super::Source;
use super::read::shown;
use crate::payment::Timestamp;

/// A public key of somebody who may loosen a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyKey {
    key: PublicKey,
    id: u64,
}

/// Not a public key of minisign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key: write the second line of minisign.pub, such as RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3")]
pub struct PolicyKeyError;

impl FromStr for PolicyKey {
    type Err = PolicyKeyError;

    fn from_str(text: &str) -> Result<Self, PolicyKeyError> {
        let key = PublicKey::from_base64(text).map_err(|_| PolicyKeyError)?;
        let bytes = STANDARD.decode(text).map_err(|_| PolicyKeyError)?;
        let id = bytes.get(2..10).and_then(|id| id.try_into().ok()).map(u64::from_le_bytes).ok_or(PolicyKeyError)?;
        Ok(Self { key, id })
    }
}

impl fmt::Display for PolicyKey {
    /// The id, as `minisign` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.id)
    }
}

/// When something was signed, by its own word, which is under the signature too.
pub fn signed_at(keys: &[PolicyKey], content: &str, signature: &str) -> Result<Timestamp, String> {
    let signature = Signature::decode(signature).map_err(|_| "is no signature of minisign, or a part of one: sign again".to_owned())?;
    let mut fault = "is by a key that `policy_keys` does not name";
    let mut by = None;
    for PolicyKey { key, .. } in keys {
        match key.verify(content.as_bytes(), &signature, false) {
            Ok(()) => by = Some(()),
            Err(Error::UnexpectedKeyId) => {}
            Err(Error::UnexpectedAlgorithm) => fault = "is in the old format: sign with minisign 0.10 or later, or with its option -H",
            Err(_) => fault = "does not match: the file was changed after it was signed (line ends count), or the signature was",
        }
    }
    by.ok_or_else(|| fault.to_owned())?;
    let seconds = signature.trusted_comment().split('\t').find_map(|part| part.strip_prefix("timestamp:")?.parse::<u32>().ok());
    let seconds = seconds.ok_or("has no `timestamp:` in its trusted comment, which tells a new one from an old one: sign without -t")?;
    Ok(Timestamp::from_secs(seconds.into()))
}

/// Holds a list of digests against the files it stands for: all of them, and no others.
pub fn check_sums(list: &str, sources: &[Source]) -> Result<(), String> {
    let mut listed = Vec::new();
    for line in list.lines().filter(|line| !line.is_empty()) {
        let entry = line.split_once("  ").or_else(|| line.split_once(" *"));
        let (digest, name) = entry.ok_or_else(|| format!("\"{}\" is no line of sha256sum", shown(line)))?;
        listed.push((digest, name.strip_prefix("./").unwrap_or(name)));
    }
    for source in sources {
        let name = source.file_name();
        let digest = alloy_primitives::hex::encode(Sha256::digest(&source.text));
        match listed.iter().find(|(_, listed)| *listed == name) {
            Some((listed, _)) if *listed == digest => {}
            Some(_) => return Err(format!("{name} is not the file that was signed")),
            None => return Err(format!("{name} is not in the list that was signed")),
        }
    }
    let is_policy = |name: &str| [".yaml", ".yml", ".payees"].iter().any(|end| name.ends_with(end)) && !name.contains(".test.");
    match listed.iter().find(|(_, name)| is_policy(name) && sources.iter().all(|s| s.file_name() != *name)) {
        Some((_, name)) => Err(format!("{} was signed as a part of the policy and is not there", shown(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // Made by minisign 0.11: `minisign -G -W`, `minisign -S -m policy.yaml`, and the same with -l.
    const KEY: &str = "RWTCnLs+JgvuhZZTOWH5kZzQitZtDINcSEQ4YJZVNtvEPg5P1H6MIjn1";
    const OTHER: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const TEXT: &str = "version: 1\nagents: {}\n";
    const GOOD: &str = "untrusted comment: signature from minisign secret key\nRUTCnLs+JgvuhUOoOGikfPWh0SzeKnCfHk+VSNW4+BOtCOLNSpYekkpnML/OmAHExPSNJ5q8DeN2q2/8OADNF+ZWl0ejFynfZwM=\ntrusted comment: timestamp:1796053617\tfile:policy.yaml\thashed\n+gtG64L/4OSvpVRXp23ueExWt7LjGu7zjbP65m0x6sNx9dDNsq+NpJwK+3qWJok/babWpIDQFdZmSI4ARkuWAg==\n";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\nRWTCnLs+JgvuhVXdP8dxHmzMDahHW2FvLgAU31ppyuCKMP/aywPfqO/qIRToRXLaZ5AUJpxUp2pnMR8WRt5X9EblN4UfFn1JBQ0=\ntrusted comment: timestamp:1796053617\tfile:policy.yaml\nuMOTnVmHm1juSJjApCXavA4ZVAg/kT8j8V0HV3YgNIh7wDuLMaRxiQTz6nBdCDDlHVd6qg6JHn8IMyMto2dRBA==\n";
    const UNTIMED: &str = "untrusted comment: signature from minisign secret key\nRUTCnLs+JgvuhUOoOGikfPWh0SzeKnCfHk+VSNW4+BOtCOLNSpYekkpnML/OmAHExPSNJ5q8DeN2q2/8OADNF+ZWl0ejFynfZwM=\ntrusted comment: just words\nIzAFn1fSPl5qUCNcAtuzTQ2bbe29+r0qzrB+xnGXu0d6cVrCn8zS0NUdTJKjSTTxAwYczNKjcXUdPe/cgAjwBQ==\n";

    fn keys(texts: &[&str]) -> Vec<PolicyKey> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn what_minisign_made_is_read_and_what_was_changed_is_not() {
        let signed = |keys: &[PolicyKey], text: &str, signature: &str| signed_at(keys, text, signature).map(|t| t.secs());
        assert_eq!(signed(&keys(&[OTHER, KEY]), TEXT, GOOD), Ok(1_796_053_617));
        assert_eq!(keys(&[KEY])[0].to_string(), "85EE0B263EBB9CC2");
        let crlf = GOOD.replace('\n', "\r\n");
        assert_eq!(signed(&keys(&[KEY]), TEXT, &crlf), Ok(1_796_053_617), "line ends of the signature itself do not count");
        let forged = GOOD.replace("timestamp:", "timestamp:9");
        for (keys, text, signature, expected) in [
            (keys(&[OTHER]), TEXT, GOOD, "is by a key that `policy_keys` does not name"),
            (keys(&[]), TEXT, GOOD, "is by a key that `policy_keys` does not name"),
            (keys(&[KEY]), "version: 1\r\nagents: {}\r\n", GOOD, "does not match"),
            (keys(&[KEY]), "version: 1\nagents: {} \n", GOOD, "does not match"),
            (keys(&[KEY]), TEXT, &forged, "does not match"),
            (keys(&[KEY]), TEXT, LEGACY, "is in the old format"),
            (keys(&[KEY]), TEXT, UNTIMED, "has no `timestamp:`"),
        ] {
            let said = signed(&keys, text, signature).unwrap_err();
            assert!(said.starts_with(expected), "{said}: {expected}");
        }
        for end in 0..GOOD.trim_end().len() {
            assert!(signed(&keys(&[KEY]), TEXT, &GOOD[..end]).is_err(), "cut at {end}");
        }
        assert!("".parse::<PolicyKey>().is_err() && KEY[..55].parse::<PolicyKey>().is_err());
    }

    #[test]
    fn a_list_of_digests_stands_for_all_files_and_no_others() {
        let source = |name: &str, text: &str| Source { name: format!("policies/{name}"), text: text.into() };
        let (a, b) = (source("a.yaml", "1"), source("b.payees", "2"));
        let line = |digest: &str, name: &str| format!("{digest}  {name}\n");
        let (one, two) = (
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
            "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
        );
        let both = line(one, "a.yaml") + &line(two, "b.payees");
        let all = [a.clone(), b.clone()];
        for (list, sources, expected) in [
            (both.clone(), &all[..], Ok(())),
            (both.replace("  ", " *"), &all[..], Ok(())),
            (both.replace("  ", "  ./").replace('\n', "\r\n").replace('\r', ""), &all[..], Ok(())),
            (both.clone() + &line(one, "a.test.yaml") + &line(one, "README.md"), &all[..], Ok(())),
            (both.clone(), &all[..1], Err("b.payees was signed as a part of the policy and is not there")),
            (line(one, "a.yaml"), &all[..], Err("b.payees is not in the list that was signed")),
            (line(two, "a.yaml") + &line(two, "b.payees"), &all[..], Err("a.yaml is not the file that was signed")),
            ("nonsense".into(), &all[..], Err("\"nonsense\" is no line of sha256sum")),
            (String::new(), &all[..1], Err("a.yaml is not in the list that was signed")),
        ] {
            assert_eq!(check_sums(&list, sources), expected.map_err(str::to_owned), "{list}");
        }
    }
}
