//! `tollpass demo`: sellers, the real proxy, a real co-signer, a plain client and a thief on loopback, with test money and a
//! fresh wallet in three shares.
//!
//! Nothing outside this machine takes part; the key ceremony, the co-signer and the thief are processes of their own. The sellers check every payment as a chain and a facilitator would; at the end
//! their books, the ledger and `/metrics` must agree to the last atomic unit, and every request must have gone as the
//! shopping list says, or the demo fails.

mod backstage;
mod books;
mod client;
mod goods;
mod report;
mod seller;
mod thief;
mod token;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use anyhow::{Context as _, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::app::{App, ServeOptions};
use crate::config::Config;
use backstage::Backstage;
use books::Books;
use goods::{Step, VOUCHED, WEATHER};
use report::{Report, Row};
use seller::Market;

const CONFIG: &str = include_str!("tollpass.yaml");
const POLICY: &str = include_str!("policy.yaml");
const COSIGNER_POLICY: &str = include_str!("cosigner.policy.yaml");

/// The agent's name.
const AGENT: &str = "demo-agent";

/// What the wallet has beyond the cost of the shopping list, so that only rules stop it.
const POCKET_MONEY: u64 = 1_000_000;

/// How to run the demo.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Stop after the report instead of staying up.
    pub once: bool,
    /// Ordinary purchases; those that go wrong come on top.
    pub payments: usize,
    /// One JSON object instead of a table.
    pub json: bool,
}

/// The files that a run of `payments` purchases uses: the proxy's configuration and policy, and the co-signer's policy.
pub fn files(payments: usize) -> [(&'static str, String); 3] {
    let steps = goods::list(payments);
    let policy = POLICY.replace("{DAY}", &goods::day_cap(&steps).to_string());
    let mut judge = COSIGNER_POLICY.replace("{DAY}", &goods::cosigner_cap(&steps).to_string());
    for good in VOUCHED {
        judge = judge.replace(&format!("{{{}}}", good.seller.to_uppercase()), &good.payee().to_string());
    }
    let config = CONFIG.replace("{COSIGNER}", "127.0.0.1:7402").replace("{PIN}", &"0".repeat(64));
    [("tollpass.yaml", config), ("policy.yaml", policy), ("cosigner/policy.yaml", judge)]
}

/// Runs the demo. Blocking.
///
/// # Errors
/// If something did not start, went otherwise than the shopping list says, or the books do not agree.
pub fn run(options: Options, out: &mut dyn Write) -> Result<()> {
    let steps = goods::list(options.payments);
    let folder = Folder::create()?;
    let [_, (_, policy), (_, judge)] = files(options.payments);
    fs::write(folder.0.join("policy.yaml"), policy)?;
    let mut silent = std::io::sink();
    let backstage = Backstage::set_up(&folder.0, &judge, if options.json { &mut silent } else { &mut *out })?;
    let wallet = backstage.address;
    let text = CONFIG.replace("{COSIGNER}", &backstage.cosigner.to_string()).replace("{PIN}", &backstage.pin);
    let config = Config::parse(&folder.0.join("tollpass.yaml"), &text, &|_| None)?;
    let app = App::bind(&config, ServeOptions::default())?;
    let admin = app.admin_address.context("the demo's configuration has an admin listener")?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("tollpass-demo").enable_all().build()?;
    runtime.block_on(backstage::ready(admin))?;
    let market = Arc::new(Market::default());
    market.fund(wallet, U256::from(goods::cost(&steps).micro().unsigned_abs() + POCKET_MONEY));
    let policies = [config.policy.clone(), backstage.policy()];
    let stage = Stage { proxy: app.proxy_address, shops: open_shops(&runtime, &market)?, market, policies };

    if !options.json {
        stage.introduce(&app, &backstage, goods::day_cap(&steps), out)?;
    }
    let rows = runtime.block_on(stage.play(&steps))?;
    let thief = thief::program().map(|program| thief::strike(&program, &backstage)).transpose()?;
    let books = runtime.block_on(Books::compare(&stage.market.transfers(), &config.private(), admin))?;
    let report = Report { signer: app.signer_kind, wallet: wallet.to_string(), rows, waits: stage.market.waits(), books, thief };
    if options.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        writeln!(out, "{}", report.text())?;
    }
    judge_report(&report, stage.market.balance(wallet))?;
    if !options.json {
        out.write_all(AFTERWARDS.as_bytes())?;
    }
    if !options.once {
        stage.stay(&runtime, admin, out)?;
    }
    app.drain(Duration::from_secs(5))
}

const AFTERWARDS: &str = "\
The three agree, nonce by nonce.

What just happened
  The client sent plain requests to the proxy. Where a seller answered 402, the proxy read the price, asked the policy,
  wrote the amount to its ledger on disk, had exactly that signed by its share and the co-signer's, and sent the request
  again. What it refused came back to the client as a 402 that says why. The flaky seller took the money and answered 500:
  the same request was then not paid a second time, because a purchase has one nonce for life.
  The cryptography is the crate dkls23, which no third party has audited: keep little in such a wallet.

What next
  tollpass demo                     the same, but it stays up: try it with your own client
  tollpass demo --show-files        the configuration and policy it runs with
  tollpass init                     files to start from
";

/// Fails unless all went as it should.
fn judge_report(report: &Report, left: U256) -> Result<()> {
    if let Some(surprise) = report.rows.iter().find_map(|r| r.surprise.as_ref()) {
        bail!("the demo went otherwise than it should: {surprise}");
    }
    if let Some(quarrel) = &report.books.quarrel {
        bail!("the books do not agree: {quarrel}");
    }
    if let Some(surprise) = report.thief.as_deref().and_then(thief::surprise) {
        bail!("{surprise}");
    }
    if left != U256::from(POCKET_MONEY) {
        bail!("the wallet should have {POCKET_MONEY} atomic units left and has {left}");
    }
    Ok(())
}

/// Where it plays.
struct Stage {
    proxy: SocketAddr,
    /// The seller the policy knows, and the one it does not.
    shops: [SocketAddr; 2],
    market: Arc<Market>,
    /// The proxy's, and the co-signer's.
    policies: [PathBuf; 2],
}

impl Stage {
    fn introduce(&self, app: &App, backstage: &Backstage, day: crate::payment::MicroUsd, out: &mut dyn Write) -> Result<()> {
        let wallet: Address = backstage.address;
        writeln!(
            out,
            "
Everything here is on loopback; the money is test money.

  agent    a plain HTTP client that knows only its proxy, http://{}
  wallet   {wallet}: two of three shares sign (signer: {})
  policy   at most 0.02 USD per payment and {day} USD per day, to four sellers, at the payee first paid
  cosigner https://{}, another process with another policy: it pays three accounts that it knows\n",
            self.proxy, app.signer_kind, backstage.cosigner
        )?;
        Ok(())
    }

    fn url(&self, step: &Step) -> String {
        let shop = self.shops[usize::from(step.good.seller == goods::STRANGER.seller)];
        format!("http://{shop}{}?{}", step.good.path, step.query)
    }

    /// Goes through the shopping list.
    async fn play(&self, steps: &[Step]) -> Result<Vec<Row>> {
        let free = client::get(self.proxy, &format!("http://{}/free", self.shops[0])).await?;
        if free.status != 200 {
            bail!("a request that costs nothing came back with status {}", free.status);
        }
        let mut rows = Vec::with_capacity(steps.len());
        for step in steps {
            let before = self.market.transfers().len();
            let answer = client::get(self.proxy, &self.url(step)).await?;
            rows.push(Row::new(step, &answer, self.market.transfers().len() > before));
        }
        Ok(rows)
    }

    /// Stays up until Ctrl-C.
    fn stay(&self, runtime: &Runtime, admin: SocketAddr, out: &mut dyn Write) -> Result<()> {
        writeln!(
            out,
            "
The proxy stays up until Ctrl-C. Today's budget is used up, so this is refused, and says why:
  curl -i -x http://{} http://{}{}
Raise the limit of both judges, and the same line buys; policies are reloaded at once:
  sed -i 's/day: [0-9.]*/day: 1/' {} {}
What it counts:
  curl -s http://{admin}/metrics | grep ^tollpass",
            self.proxy,
            self.shops[0],
            WEATHER.path,
            self.policies[0].display(),
            self.policies[1].display()
        )?;
        out.flush()?;
        runtime.block_on(tokio::signal::ctrl_c()).context("cannot wait for Ctrl-C")
    }
}

fn open_shops(runtime: &Runtime, market: &Arc<Market>) -> Result<[SocketAddr; 2]> {
    let mut shops = seller::hosts();
    for shop in &mut shops {
        let listener = runtime.block_on(TcpListener::bind(*shop)).with_context(|| format!("a seller cannot listen on {}", shop.ip()))?;
        *shop = listener.local_addr()?;
        runtime.spawn(market.clone().serve(listener, std::future::pending::<()>()));
    }
    Ok(shops)
}

/// A private temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tollpass-demo-{:016x}", rand::random::<u64>()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0 as &Path);
    }
}
