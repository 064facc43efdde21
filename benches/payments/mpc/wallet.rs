//! A wallet in three shares, all made in this process, and the folders of its two online parties.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollpass::custody::{Custody, Unseal};
use tollpass::mpc::{self, Fingerprint, Inbox, Next, Origin, Party, Plan, Post, Setup, Share};
use tollpass::payment::Payer;
use tollpass::wire::identity::{self, Identity};

/// One party's folder: `share/`, `identity.pem`, `passphrase` and `state/`.
pub(super) struct Home {
    pub(super) folder: PathBuf,
    pub(super) identity: Identity,
}

impl Home {
    fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(folder.join("share")).unwrap();
        let identity = identity::create(&folder.join("identity.pem")).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(folder.join("passphrase")).unwrap();
        std::io::Write::write_all(&mut file, b"the passphrase of a bench").unwrap();
        Self { folder, identity }
    }

    pub(super) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    pub(super) fn unseal(&self) -> Unseal {
        Unseal::File(self.folder.join("passphrase"))
    }
}

/// The wallet.
pub(super) struct Wallet {
    pub(super) sidecar: Home,
    pub(super) cosigner: Home,
    pub(super) address: Payer,
    /// What a share is on the disk, bytes, before it is sealed.
    pub(super) share_size: usize,
    /// Memory that one more opened share takes, bytes.
    pub(super) share_memory: u64,
}

impl Wallet {
    /// The library's distributed key generation between three parties of this process.
    pub(super) fn create(dir: &Path) -> Self {
        let (sidecar, cosigner) = (Home::new(dir.join("sidecar")), Home::new(dir.join("cosigner")));
        let identities = BTreeMap::from([
            (Party::Sidecar, sidecar.identity.fingerprint()),
            (Party::Cosigner, cosigner.identity.fingerprint()),
            (Party::Cold, Fingerprint([3; 32])),
        ]);
        let plan = Plan { wallet: "bench".parse().unwrap(), origin: Origin::OneHost, recovery: None, identities, existing: None };
        let shares = generate(&plan);
        for share in &shares {
            let home = match share.wallet().party {
                Party::Sidecar => &sidecar,
                Party::Cosigner => &cosigner,
                Party::Cold => continue,
            };
            Custody::create(&home.share(), share, &home.unseal()).unwrap();
        }
        let bytes = shares[0].secret_bytes().unwrap();
        let share_memory = memory_of(|| Share::from_secret(shares[0].wallet().clone(), &bytes).unwrap());
        Self { address: Payer(shares[0].wallet().address), share_size: bytes.len(), share_memory, sidecar, cosigner }
    }
}

fn generate(plan: &Plan) -> Vec<Share> {
    let begun = Party::ALL.map(|party| mpc::create(party, plan.clone(), rand::random()).unwrap());
    let (mut setups, mut posts): (Vec<Setup>, Vec<Post>) = begun.into_iter().unzip();
    loop {
        let inboxes: Vec<Inbox> = Party::ALL.iter().map(|me| inbox(*me, &posts)).collect();
        let (mut shares, mut next) = (Vec::new(), Vec::new());
        posts.clear();
        for (setup, inbox) in setups.into_iter().zip(&inboxes) {
            match setup.advance(inbox).unwrap() {
                (Next::Post(post), setup) => {
                    posts.push(post);
                    next.extend(setup);
                }
                (Next::Done(share), _) => shares.push(*share),
            }
        }
        if !shares.is_empty() {
            return shares;
        }
        setups = next;
    }
}

fn inbox(me: Party, posts: &[Post]) -> Inbox {
    let mut inbox = Inbox::default();
    for (from, post) in Party::ALL.into_iter().zip(posts).filter(|(from, _)| *from != me) {
        inbox.broadcast.insert(from, post.broadcast.clone());
        inbox.private.extend(post.private.get(&me).cloned().map(|p| (from, p)));
    }
    inbox
}

/// What one of 64 things of a kind adds to this process's memory, bytes.
fn memory_of<T>(make: impl Fn() -> T) -> u64 {
    const MANY: u64 = 64;
    let before = super::process::memory(std::process::id());
    let all: Vec<Arc<T>> = (0..MANY).map(|_| Arc::new(make())).collect();
    let after = super::process::memory(std::process::id());
    drop(all);
    after.saturating_sub(before) / MANY
}
