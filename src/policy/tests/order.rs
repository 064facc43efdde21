//! Rank: never the seller's order (M3.4 step 3).

use proptest::prelude::*;

use super::*;

const POLICY: &str =
    "[ { id: e, host: api.example, flows: [upfront, authorization], networks: [\"eip155:8453\", \"eip155:137\", \"eip155:84532\"] } ]";

#[test]
fn m3_7_rank_is_flow_price_network_asset_payee_amount() {
    let base = |n| offer(0, BASE_USDC, n);
    let upfront = |o: Offer| Offer { flow: Flow::Upfront, ..o };
    let to = |n, o: Offer| Offer { payee: payee(n), ..o };
    for (what, winner, loser) in [
        ("flow by its list order before price", upfront(base(40_000)), base(10)),
        ("price", base(10), base(11)),
        ("network as text: 137 before 8453", offer(0, POLYGON_USDC, 10), base(10)),
        ("network as text: 8453 before 84532", base(10), offer(0, SEPOLIA_USDC, 10)),
        ("payee", to(0x0a, base(10)), to(0xa0, base(10))),
    ] {
        for swapped in [false, true] {
            let (mut a, mut b) = (winner.clone(), loser.clone());
            (a.index, b.index) = (7, 8);
            let offers = if swapped { vec![b, a] } else { vec![a, b] };
            let decision = Ask::default().of(&allowing(POLICY), offers, &Books::default());
            assert_eq!(decision.verdict.unwrap().offer().index, 7, "{what}, swapped: {swapped}");
        }
    }
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let asset = prop::sample::select(vec![BASE_USDC, POLYGON_USDC, SEPOLIA_USDC]);
    (asset, 0_u64..60_000, 1_u8..4, any::<bool>(), 1_u64..3).prop_map(|(asset, atomic, to, upfront, timeout)| Offer {
        flow: if upfront { Flow::Upfront } else { Flow::Authorization },
        payee: payee(to),
        max_timeout: timeout,
        wire: WireEntry { accepted: format!("{asset}{atomic}{to}{upfront}{timeout}").into(), resource: None, extensions: None },
        ..offer(0, asset, atomic)
    })
}

proptest! {
    #[test]
    fn the_sellers_order_never_changes_what_is_paid(offers in prop::collection::vec(any_offer(), 1..6), seed in any::<prop::sample::Index>()) {
        let policy = allowing(POLICY);
        let terms = |offers: Vec<Offer>| {
            let decision = Ask::default().of(&policy, offers, &Books::default());
            let leading = decision.verdict.as_ref().err().map(Refusal::reason);
            (decision.verdict.ok().map(|a| a.offer().wire.accepted.clone()), leading)
        };
        let mut turned = offers.clone();
        turned.rotate_left(seed.index(offers.len()));
        let mut reversed = offers.clone();
        reversed.reverse();
        let first = terms(offers);
        prop_assert_eq!(&first, &terms(turned));
        prop_assert_eq!(&first, &terms(reversed));
    }
}
