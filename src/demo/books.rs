//! Three books of one run: what the sellers received, what the ledger recorded, what `/metrics` shows. They must agree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256};
use anyhow::{Context as _, Result};

use super::token::Transfer;
use crate::ledger::{Ledger, Purchase, PurchaseState};
use crate::net;
use crate::payment::{MicroUsd, Price};

/// Writing the outcome of the last payment may take this long.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The three sums, and the first difference.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) seller: MicroUsd,
    pub(super) transfers: usize,
    pub(super) ledger: MicroUsd,
    pub(super) purchases: usize,
    pub(super) metrics: MicroUsd,
    pub(super) quarrel: Option<String>,
}

impl Books {
    /// Reads all three until they agree, or until waiting is over.
    pub(super) async fn compare(transfers: &[Transfer], private: &Path, admin: SocketAddr) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let purchases = Ledger::list(private).context("cannot read the ledger")?;
            let (_, text) = net::get(admin, "/metrics", PATIENCE).await.context("cannot read /metrics")?;
            let books = Self::of(transfers, &purchases, spent(&String::from_utf8_lossy(&text)));
            if books.quarrel.is_none() || Instant::now() >= deadline {
                return Ok(books);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn of(transfers: &[Transfer], purchases: &[Purchase], metrics: MicroUsd) -> Self {
        // A purchase that is not void counts as spent, whatever became of it.
        let kept: Vec<&Purchase> = purchases.iter().filter(|p| p.state != PurchaseState::Void).collect();
        let sold = lines(transfers.iter().map(|t| (t.nonce, t.to, t.value)));
        let bought = lines(kept.iter().map(|p| (p.nonce.bytes(), p.payee.0, p.amount)));
        let value: U256 = transfers.iter().map(|t| t.value).sum();
        let seller = Price::ONE_DOLLAR.value_of(value, 6).unwrap_or(MicroUsd::new(i64::MAX));
        let ledger = kept.iter().try_fold(MicroUsd::ZERO, |sum, p| sum.checked_add(p.held)).unwrap_or(MicroUsd::new(i64::MAX));
        let mut books = Self { seller, transfers: transfers.len(), ledger, purchases: kept.len(), metrics, quarrel: None };
        books.quarrel = books.difference(&sold, &bought);
        books
    }

    fn difference(&self, sold: &Lines, bought: &Lines) -> Option<String> {
        if self.transfers != sold.len() {
            return Some("a seller used one nonce twice".into());
        }
        if let Some((nonce, (payee, value))) = sold.iter().find(|(nonce, line)| bought.get(*nonce) != Some(line)) {
            return Some(format!("{payee} got {value} atomic units under nonce {nonce}, which the ledger does not have so"));
        }
        if let Some((nonce, (payee, value))) = bought.iter().find(|(nonce, _)| !sold.contains_key(*nonce)) {
            return Some(format!("the ledger has {value} atomic units for {payee} under nonce {nonce}, which nobody received"));
        }
        if self.ledger != self.seller || self.metrics != self.seller {
            return Some(format!("sellers got {} USD, the ledger says {}, /metrics says {}", self.seller, self.ledger, self.metrics));
        }
        None
    }
}

type Lines = BTreeMap<B256, (Address, U256)>;

fn lines(of: impl Iterator<Item = (B256, Address, U256)>) -> Lines {
    of.map(|(nonce, payee, value)| (nonce, (payee, value))).collect()
}

/// The sum of `tollpass_spend_usd_total`, which is a float for display: rounded to the micro-dollar.
fn spent(metrics: &str) -> MicroUsd {
    let samples = metrics.lines().filter(|l| l.starts_with("tollpass_spend_usd_total{"));
    let sum: f64 = samples.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
    MicroUsd::new((sum * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_the_ledger_does_not_know_is_a_quarrel() {
        let transfer = Transfer { from: Address::ZERO, to: Address::repeat_byte(1), value: U256::from(5), nonce: B256::ZERO };
        assert!(Books::of(&[], &[], MicroUsd::ZERO).quarrel.is_none());
        assert!(Books::of(&[], &[], MicroUsd::new(1)).quarrel.is_some_and(|q| q.contains("/metrics says 0.000001")));
        let books = Books::of(&[transfer.clone(), transfer], &[], MicroUsd::new(10));
        assert!(books.quarrel.is_some_and(|q| q.contains("twice")));
    }

    #[test]
    fn spend_is_summed_over_its_series() {
        let text = "# TYPE tollpass_spend_usd_total counter\ntollpass_spend_usd_total{agent=\"a\"} 0.1\ntollpass_spend_usd_total{agent=\"b\"} 0.2\ntollpass_spend_usd_totally 9\n";
        assert_eq!(spent(text), MicroUsd::new(300_000));
    }
}
