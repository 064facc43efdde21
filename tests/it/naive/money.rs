//! Micro-dollars as plain wide integers (M2.3, M3.1).

/// "0.05" is 50000. Panics on text that M3.1 does not take: the files are ours.
pub(crate) fn micro(text: &str) -> i128 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    assert!(!whole.is_empty() && whole.len() <= 10 && digits(whole) && digits(part) && part.len() <= 6, "not money: {text:?}");
    let padded = format!("{part:0<6}");
    whole.parse::<i128>().expect("digits") * 1_000_000 + padded.parse::<i128>().expect("digits")
}

/// Division that rounds up, of numbers that are not negative.
pub(crate) fn ceil_div(a: i128, b: i128) -> i128 {
    (a + b - 1) / b
}

/// The value of an amount: ceil(atomic × price ÷ 10^decimals), with `margin` percent on top of the price; at least 1 when
/// there is an amount. `None`: does not fit the ledger's 64 bits.
pub(crate) fn value(atomic: i128, price_micro: i128, margin: i128, decimals: u32) -> Option<i128> {
    let over = 10i128.checked_pow(decimals)?.checked_mul(100)?;
    let micro = ceil_div(atomic.checked_mul(price_micro)?.checked_mul(100 + margin)?, over);
    let micro = if atomic > 0 { micro.max(1) } else { micro };
    (micro <= i128::from(i64::MAX)).then_some(micro)
}
