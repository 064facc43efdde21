//! One value of the file → one Rust value, or the sentence that says what to write.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tree::{Node, Value, one_of};
use super::value::{duration, size};
use crate::policy::Host;

const KIB: u64 = 1 << 10;

pub(crate) fn text(node: &Node) -> Result<&str, String> {
    match &node.value {
        Value::Text(t) => Ok(t),
        _ => Err(format!("expected text, found {}", node.shape())),
    }
}

pub(crate) fn choice<T: Copy>(node: &Node, options: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
    let given = text(node).unwrap_or_default();
    options.iter().find(|(name, _)| *name == given).map(|(_, v)| *v).ok_or_else(|| format!("write {}", one_of(&names)))
}

pub(crate) fn flag(node: &Node) -> Result<bool, String> {
    match node.value {
        Value::Bool(b) => Ok(b),
        _ => Err("write true or false".into()),
    }
}

pub(crate) fn count(node: &Node, most: i128) -> Result<usize, String> {
    match node.value {
        Value::Int(n) if n >= 1 && n <= most => usize::try_from(n).map_err(|e| e.to_string()),
        _ => Err(format!("write a whole number from 1 to {most}")),
    }
}

/// Numbers without a unit get the message that names the unit.
fn with_unit<T>(node: &Node, read: fn(&str) -> Result<T, String>) -> Result<T, String> {
    match &node.value {
        Value::Text(t) => read(t),
        Value::Int(n) => read(&n.to_string()),
        _ => read(""),
    }
}

pub(crate) fn bytes(node: &Node) -> Result<u64, String> {
    with_unit(node, size)
}

/// A bound that may be absent.
pub(crate) fn bytes_or_none(node: &Node) -> Result<u64, String> {
    match text(node) {
        Ok("none") => Ok(u64::MAX),
        _ => bytes(node).map_err(|m| format!("{m}, or none")),
    }
}

pub(crate) fn bytes_between(node: &Node, least: u64, most: u64) -> Result<usize, String> {
    let n = bytes(node)?;
    if n < least || n > most {
        return Err(format!("write a size from {}KiB to {}KiB", least / KIB, most / KIB));
    }
    usize::try_from(n).map_err(|e| e.to_string())
}

pub(crate) fn time(node: &Node) -> Result<Duration, String> {
    with_unit(node, duration)
}

pub(crate) fn some_time(node: &Node) -> Result<Duration, String> {
    let t = time(node)?;
    if t.is_zero() { Err("must be longer than nothing".into()) } else { Ok(t) }
}

pub(crate) fn address(node: &Node, example: &str) -> Result<SocketAddr, String> {
    text(node).ok().and_then(|t| t.parse().ok()).ok_or_else(|| format!("write an IP address and port such as {example}"))
}

pub(crate) fn address_or_none(node: &Node, example: &str) -> Result<Option<SocketAddr>, String> {
    match text(node) {
        Ok("none") => Ok(None),
        _ => address(node, example).map(Some).map_err(|m| format!("{m}, or none")),
    }
}

pub(crate) fn path(node: &Node, folder: &Path) -> Result<PathBuf, String> {
    match text(node) {
        Ok("") => Err("write a path".into()),
        Ok(t) => Ok(folder.join(t)),
        Err(_) => Err(format!("write a path, not {}", node.shape())),
    }
}

pub(crate) fn host_pattern(node: &Node) -> Result<String, String> {
    let form = "write a host name, an address, or *.name for every name below it";
    let t = text(node).map_err(|_| form.to_owned())?;
    let (prefix, name) = match t.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", t),
    };
    match Host::parse(name) {
        Ok(Host::Ip(_)) if !prefix.is_empty() => Err(form.into()),
        _ if name.contains('*') => Err(form.into()),
        Ok(host) => Ok(format!("{prefix}{host}")),
        Err(_) => Err(form.into()),
    }
}
