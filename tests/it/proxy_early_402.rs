//! A seller answers 402 before it has read a large upload (design §3). Whatever it does then, the 402 is not lost, and the
//! request that is paid for carries every byte.

use alloy_primitives::Address;

use crate::harness::{Call, Chain, Next, Plan, Program, Seller, Setup, Terms, sha256, shop};

const SIZE: usize = 10 << 20;
const ROUNDS: usize = 8;
const PAYEE: Address = Address::repeat_byte(0x44);

fn upload(round: usize) -> Vec<u8> {
    (0..SIZE).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ round) as u8).collect()
}

/// Posts 10 MiB eight times to a seller that answers the unpaid one at once and then does `then`.
fn exactly_one_purchase_each(then: fn(&mut Call<'_>) -> Next) {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let (headers, body) = terms.answer();
    let pay = shop(&chain, terms, |visit| Plan::ok(sha256(&visit.body)));
    let seller = Seller::http(move |call| {
        if call.head.has("payment-signature") {
            return pay(call);
        }
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
        then(call)
    });
    let program = Program::start(Setup::new());
    for round in 0..ROUNDS {
        let body = upload(round);
        let answer = program.request("POST", &seller.url("/upload"), "", &body);
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        assert_eq!(answer.body, sha256(&body), "round {round}: the seller got other bytes");
        assert_eq!((chain.count(), seller.paid().len()), (round + 1, round + 1));
    }
}

#[test]
fn an_early_402_is_not_lost_when_the_seller_closes() {
    exactly_one_purchase_each(|_| Next::Close);
}

#[test]
fn an_early_402_is_not_lost_when_the_seller_resets() {
    exactly_one_purchase_each(|_| Next::Reset);
}

#[test]
fn an_early_402_is_not_lost_when_the_seller_stalls() {
    exactly_one_purchase_each(|call| call.stall());
}

#[test]
fn an_early_402_is_not_lost_when_the_seller_drains() {
    exactly_one_purchase_each(|call| {
        call.body();
        Next::Keep
    });
}
