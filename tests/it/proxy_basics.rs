//! Smoke.
use crate::harness::{Chain, Plan, Program, Seller, Setup, Terms, shop};
use alloy_primitives::Address;

#[test]
fn an_unmodified_agent_buys_over_plain_http() {
    let chain = Chain::new();
    let payee = Address::repeat_byte(0x11);
    let seller = Seller::http(shop(&chain, Terms::v2(payee, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/report"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
    assert_eq!((chain.count_to(payee), chain.count()), (1, 1));
}
