//! Who signs, as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::config::{Config, MpcConfig, Pin, SignerConfig};
use crate::crew::Crew;
use crate::custody::Custody;
use crate::metrics::Metrics;
use crate::mpc::{Origin, Party};
use crate::signer::Signer;
use crate::signer::mpc::{MpcSigner, Parts};
use crate::wire::identity::Public;
use crate::wire::identity::load_or_refuse;
use crate::wire::link::{Client, Peer};

/// One signature of a local key may take this long.
#[cfg(feature = "local-signer")]
const LOCAL_DEADLINE: Duration = Duration::from_secs(2);

/// Time to reach the co-signer.
const CONNECT: Duration = Duration::from_secs(1);

/// A signer at work.
pub(super) struct Started {
    pub(super) signer: Arc<dyn Signer>,
    /// How long one signature may take.
    pub(super) deadline: Duration,
    /// What keeps its link warm; it has the share until it is stopped.
    pub(super) keeper: Option<AbortHandle>,
}

/// Starts the signer of the configuration.
pub(super) fn start(config: &Config, metrics: &Arc<Metrics>, money: &Handle) -> Result<Started> {
    match &config.signer {
        SignerConfig::Mpc(mpc) => {
            let signer = mpc_signer(mpc, metrics).context("signer.mpc")?;
            let keeper = money.spawn(signer.clone().keep()).abort_handle();
            Ok(Started { signer: Arc::new(signer), deadline: mpc.deadline, keeper: Some(keeper) })
        }
        #[cfg(feature = "local-signer")]
        SignerConfig::Local { key } => {
            let signer = crate::signer::local::LocalSigner::start(key.expose()).context("signer.local.key")?;
            tracing::warn!("the whole key is in this process (signer.local): for laptops and trials only");
            Ok(Started { signer: Arc::new(signer), deadline: LOCAL_DEADLINE, keeper: None })
        }
        #[cfg(not(feature = "local-signer"))]
        SignerConfig::Local { .. } => anyhow::bail!("signer.local: this build has no local signer (cargo feature `local-signer`)"),
    }
}

fn mpc_signer(config: &MpcConfig, metrics: &Arc<Metrics>) -> Result<MpcSigner> {
    let identity = load_or_refuse(&config.identity).with_context(|| format!("{} (identity)", config.identity.display()))?;
    let pin = match &config.pin {
        Pin::Fingerprint(pin) => *pin,
        Pin::Certificate(path) => {
            let pem = std::fs::read_to_string(path).with_context(|| format!("ca: {}", path.display()))?;
            Public::from_certificate_pem(&pem).with_context(|| format!("ca: {}", path.display()))?.fingerprint()
        }
    };
    let custody = Arc::new(Custody::open(&config.share, &config.unseal)?);
    let wallet = custody.share().wallet();
    let shown = config.share.display();
    ensure!(wallet.id == config.wallet, "{shown}: a share of the wallet `{}`, not of `{}`", wallet.id, config.wallet);
    ensure!(wallet.party == Party::Sidecar, "{shown}: the {}'s share: this process holds the sidecar's and no other (S2)", wallet.party);
    if wallet.origin != Origin::Distributed {
        tracing::warn!(origin = wallet.origin.as_str(), "one host has seen all shares of this wallet: it signs for test networks only");
    }
    tracing::warn!("the signing library has no third-party audit: see SECURITY.md");
    if config.pool > 0 {
        tracing::warn!("presignatures are on (accept_unreviewed_presign): no cryptographer has reviewed them");
    }
    let peer = Peer { authority: config.cosigner.clone(), pin };
    Ok(MpcSigner::new(Parts {
        client: Client::new(identity.clone(), peer, CONNECT),
        identity,
        custody,
        crew: Crew::per_core("tollpass-sign")?,
        metrics: Arc::clone(metrics),
        cosigner: config.cosigner.clone(),
        pool: config.pool,
    }))
}
