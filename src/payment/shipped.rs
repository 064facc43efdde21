//! The assets Tollpass knows out of the box: stablecoins with EIP-3009 (x402 reference §10).
//!
//! Names and versions are the contracts' own EIP-712 domain, which differ between deployments of the same coin: Base says
//! "USD Coin", Base Sepolia "USDC". A wrong one gives a worthless signature. Permit2-only tokens are left out on purpose.

use alloy_primitives::{Address, address};

use super::{Asset, AssetId, ChainId, Eip712Name, Price};

type Row = (u64, Address, &'static str, &'static str, &'static str);

/// chain id, contract, symbol, EIP-712 name, EIP-712 version; all with six decimals and a one-dollar peg.
const ROWS: [Row; 22] = [
    (8453, address!("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), "USDC", "USD Coin", "2"),
    (84532, address!("036CbD53842c5426634e7929541eC2318f3dCF7e"), "USDC", "USDC", "2"),
    (1, address!("A0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"), "USDC", "USD Coin", "2"),
    (43114, address!("B97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"), "USDC", "USD Coin", "2"),
    (137, address!("3c499c542cEF5E3811e1192ce70d8cC03d5c3359"), "USDC", "USD Coin", "2"),
    (42161, address!("af88d065e77c8cC2239327C5EDb3A432268e5831"), "USDC", "USD Coin", "2"),
    (421614, address!("75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"), "USDC", "USD Coin", "2"),
    (143, address!("754704Bc059F8C67012fEd69BC8A327a5aafb603"), "USDC", "USDC", "2"),
    (988, address!("779Ded0c9e1022225f8E0630b35a9b54bE713736"), "USDT0", "USDT0", "1"),
    (2201, address!("78Cf24370174180738C5B8E352B6D14c83a6c9A9"), "USDT0", "USDT0", "1"),
    (42220, address!("cebA9300f2b948710d2653dD7B07f33A8B32118C"), "USDC", "USDC", "2"),
    (42220, address!("48065fbBE25f71C9282ddf5e1cD6D6A887483D5e"), "USDT", "Tether USD", "1"),
    (42220, address!("D2ab3C9A02DBBAB236BfEC45D1d755DF4267F771"), "USAT", "Tether America USD", "1"),
    (11142220, address!("01C5C0122039549AD1493B8220cABEdD739BC44E"), "USDC", "USDC", "2"),
    (1329, address!("e15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392"), "USDC", "USDC", "2"),
    (1328, address!("4fCF1784B31630811181f670Aea7A7bEF803eaED"), "USDC", "USDC", "2"),
    (14, address!("e7cd86e13AC4309349F30B3435a9d337750fC82D"), "USDT0", "USD\u{20ae}0", "1"),
    (50, address!("fA2958CB79b0491CC627c1557F441eF849Ca8eb1"), "USDC", "USDC", "2"),
    (51, address!("b5AB69F7bBada22B28e79C8FFAECe55eF1c771D4"), "USDC", "USDC", "2"),
    (36900, address!("9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2"), "USDC", "USDC.e", "2"),
    (190415, address!("401eCb1D350407f13ba348573E5630B83638E30D"), "USDC", "Bridged USDC", "2"),
    (181228, address!("401eCb1D350407f13ba348573E5630B83638E30D"), "USDC", "Bridged USDC", "2"),
];

pub(super) fn assets() -> impl Iterator<Item = Asset> {
    ROWS.into_iter().filter_map(|(chain, token, symbol, name, version)| {
        Some(Asset {
            id: AssetId { chain: ChainId::new(chain)?, token },
            symbol: symbol.into(),
            decimals: 6,
            eip712: Eip712Name { name: name.into(), version: version.into() },
            price: Some(Price::ONE_DOLLAR),
        })
    })
}
