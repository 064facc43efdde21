//! Every file in `policies/` loads without an error, pays what it says and refuses what it says.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

struct Case {
    file: &'static str,
    agent: &'static str,
    method: Method,
    url: &'static str,
    asset: &'static str,
    atomic: u64,
    to: u8,
    expected: &'static str,
}

const fn case(
    file: &'static str,
    agent: &'static str,
    url: &'static str,
    asset: &'static str,
    atomic: u64,
    to: u8,
    expected: &'static str,
) -> Case {
    Case { file, agent, method: Method::GET, url, asset, atomic, to, expected }
}

const EURC: &str = "eip155:8453/erc20:0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42";

#[test]
fn every_example_policy_does_what_it_says() {
    let cases = [
        case("one-api.yaml", "research-bot", "https://api.bureau.example/v2/report", BASE_USDC, 50_000, 1, "bureau"),
        case("one-api.yaml", "research-bot", "https://api.bureau.example/v2/report", BASE_USDC, 50_001, 1, "cap_per_payment"),
        case("one-api.yaml", "research-bot", "https://www.bureau.example/v2/report", BASE_USDC, 1, 1, "not_allowed"),
        case("two-agents.yaml", "research-bot", "https://papers.example/search", BASE_USDC, 150_000, 1, "papers"),
        case("two-agents.yaml", "pricing-bot", "https://papers.example/search", BASE_USDC, 1, 1, "not_allowed"),
        case("two-agents.yaml", "pricing-bot", "https://eu.feed.example/quotes/EURUSD", BASE_USDC, 20_000, 1, "feed"),
        case("two-agents.yaml", "pricing-bot", "https://eu.feed.example/quotes/EURUSD", BASE_USDC, 20_001, 1, "entry_max"),
        case("testnet.yaml", "trial-bot", "http://127.0.0.1:4021/weather", SEPOLIA_USDC, 10_000, 1, "local-seller"),
        case("testnet.yaml", "trial-bot", "http://127.0.0.1:4021/weather", BASE_USDC, 10_000, 1, "not_allowed"),
        case("testnet.yaml", "trial-bot", "https://www.x402.org/protected", SEPOLIA_USDC, 10_000, 1, "public-demo"),
        case("strict-payees.yaml", "buyer", "https://data.seller.example/api/rows", BASE_USDC, 10_000, 0x11, "seller"),
        case("strict-payees.yaml", "buyer", "https://data.seller.example/api/rows", BASE_USDC, 10_000, 0x22, "not_allowed"),
        case("strict-payees.yaml", "buyer", "https://data.seller.example/api/admin/rows", BASE_USDC, 10_000, 0x11, "denied"),
        case("strict-payees.yaml", "buyer", "https://maps.example/tile", BASE_USDC, 10_000, 0x66, "denied"),
        case("strict-payees.yaml", "buyer", "https://maps.example/tile", BASE_USDC, 10_000, 0x33, "maps"),
        case("egress.yaml", "research-bot", "https://api.bureau.example/v2/report", BASE_USDC, 10_000, 1, "bureau"),
        case("egress.yaml", "research-bot", "https://elsewhere.example/", BASE_USDC, 10_000, 1, "egress_denied"),
        case("egress.yaml", "research-bot", "https://ads.news.example/", BASE_USDC, 10_000, 1, "egress_denied"),
        case("egress.yaml", "research-bot", "https://www.news.example/", BASE_USDC, 10_000, 1, "not_allowed"),
        case("custom-asset.yaml", "euro-bot", "https://api.euro.example/v1/x", EURC, 100_000, 1, "euro"),
        case("custom-asset.yaml", "euro-bot", "https://api.euro.example/v1/x", BASE_USDC, 10_000, 1, "not_allowed"),
        case("custom-asset.yaml", "euro-bot", "https://api.coin.example/v1/x", POLYGON_USDC, 10_000, 1, "coin"),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let names: BTreeSet<String> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 5);
    // A co-signer's policy is another kind of file; `cosigner.rs` beside this one exercises it. The cases beside each example are
    // judged where the protocol may be named, `cli::cases`: they are the tests of the examples that this table leaves out.
    let policies = names.iter().filter(|name| name.ends_with(".yaml") && !name.ends_with(".test.yaml") && *name != "cosigner.yaml");
    for name in policies {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let policy = Policy::parse(&[Source { name: name.clone(), text }], 1).unwrap_or_else(|e| panic!("{e}"));
        assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
        let own: Vec<&Case> = cases.iter().filter(|c| c.file == name).collect();
        let paid = |c: &&&Case| !Reason::ALL.iter().any(|r| r.as_str() == c.expected);
        let both = own.iter().any(|c| paid(&c)) && own.iter().any(|c| !paid(&c));
        let cases = name.replace(".yaml", ".test.yaml");
        assert!(names.contains(&cases), "{name} needs cases in {cases}");
        assert!(own.is_empty() || both, "{name} needs a payable and a refused case in the table");
        for case in own {
            let ask = Ask { agent: case.agent.into(), method: case.method.clone(), ..Ask::url(case.url) };
            let mut offer = Offer { payee: payee(case.to), ..offer(0, case.asset, case.atomic) };
            if let Some(known) = policy.assets().get(&offer.asset.id) {
                offer.asset = known.clone();
            }
            assert_eq!(short(&ask.of(&policy, vec![offer], &Books::default())), case.expected, "{name}: {}", case.url);
        }
    }
    assert!(cases.iter().all(|c| names.contains(c.file)));
}
