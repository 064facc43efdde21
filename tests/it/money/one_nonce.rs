//! M1.2: one nonce per purchase.

use super::*;

#[test]
fn m1_2_what_is_presented_again_is_the_same_bytes() {
    let till = Till::new(Setup::new(), |visit| if visit.before < 2 { Plan::keep(answer(503)) } else { Plan::ok("sold") });
    for expect in [503, 503, 200] {
        assert_eq!(till.get("/x").status, expect);
    }
    let shown: HashSet<_> = till.seller.paid().iter().map(|s| s.head.get("payment-signature").unwrap().to_owned()).collect();
    assert_eq!((shown.len(), till.chain.count()), (1, 1));
    till.states(&["settled"]);
    till.spent(CENT);
}

#[test]
fn m1_2_a_new_price_keeps_the_nonce_and_holds_the_maximum() {
    for (before, after) in [(CENT, 2 * CENT), (2 * CENT, CENT)] {
        let chain = Chain::new();
        let which = Arc::new(AtomicUsize::new(0));
        let first = shop(&chain, Terms::v2(payee(), before), |_| Plan::keep(answer(500)));
        let seller = turncoat(&which, first, shop(&chain, Terms::v2(payee(), after), |_| Plan::ok("sold")));
        let till = Till { chain, seller, program: Program::start(Setup::new()) };
        assert_eq!(till.get("/x").status, 500);
        let nonce = rows(&till.program)[0].nonce.clone();
        which.store(1, Ordering::Release);
        assert_eq!(till.get("/x").status, 200);
        let all = rows(&till.program);
        assert_eq!((all.len(), &all[0].nonce, all[0].atomic), (1, &nonce, after));
        assert_eq!((till.chain.count(), till.chain.total()), (1, U256::from(after)));
        till.spent(2 * CENT);
    }
}

/// A token of the policy's own beside USDC.
const TOKEN: &str = "0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42";

fn with_token(caps: &str) -> Setup {
    Setup::new().policy(format!(
        "version: 1\nassets:\n  - {{ id: \"eip155:84532/erc20:{TOKEN}\", symbol: PLAY, decimals: 6, eip712: {{ name: Play, version: \"7\" }}, usd: \"1.00\" }}\n\
         risk: {{ paid_but_failed: off, retry_loop: off }}\nagents:\n  bot:\n    caps: {{ {caps} }}\n    allow:\n      - {{ id: local, host: 127.0.0.1, networks: [\"eip155:84532\"], assets: [USDC, PLAY], pay_to: any, plain_http: true }}\n"
    ))
}

fn token_terms() -> Terms {
    let mut terms = Terms::v2(payee(), CENT);
    terms.accepts[0]["asset"] = TOKEN.into();
    terms.accepts[0]["extra"] = json!({ "name": "Play", "version": "7" });
    terms
}

#[test]
fn m1_2_another_token_waits_while_a_payment_is_outstanding() {
    let chain = Chain::new();
    let which = Arc::new(AtomicUsize::new(0));
    let first = shop(&chain, Terms::v2(payee(), CENT), |_| Plan::keep(answer(500)));
    let seller = turncoat(&which, first, shop(&chain, token_terms(), |_| Plan::ok("sold")));
    let till = Till { chain, seller, program: Program::start(with_token("per_payment: 1, day: 10")) };
    assert_eq!(till.get("/x").status, 500);
    which.store(1, Ordering::Release);
    let refused = till.get("/x");
    assert_eq!((refused.status, refused.reason().as_str()), (402, "payment_outstanding"));
    assert_eq!((till.seller.paid().len(), till.chain.count()), (1, 0));
    till.spent(CENT);
}

#[test]
fn a_token_of_the_policys_own_is_paid_under_its_own_domain() {
    let seen = Seller::http(
        move |call| {
            if call.head.has("payment-signature") { call.reply(200, "", "sold") } else { challenge(call, &token_terms()) }
        },
    );
    let program = Program::start(with_token("per_payment: 1, day: 10"));
    assert_eq!(program.get(&seen.url("/x")).status, 200);
    let credential = seen.paid()[0].head.get("payment-signature").unwrap().to_owned();
    assert_eq!(signer_of(&credential, TOKEN, "Play", "7"), payer());
    assert_eq!(spent(&program), CENT);
}

#[test]
fn a_token_nobody_listed_is_refused() {
    let till = Till::with(Setup::new(), token_terms(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").reason(), "unknown_asset");
    assert_eq!(till.seller.paid().len(), 0);
    till.spent(0);
}
