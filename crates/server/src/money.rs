//! Money on the wire: dollars as a number with at most six decimals, exactly. Inside it is whole millionths.

/// Millionths of a dollar in one.
const MILLIONTHS: u64 = 1_000_000;
/// The most that is read, in dollars: what a number of the wire still tells apart to the millionth.
pub(crate) const DOLLARS_MAX: u64 = 1_000_000_000;

/// Millionths as dollars. The number nearest to it has no more than six decimals when it is written down.
pub(crate) fn dollars(millionths: u64) -> f64 {
    millionths as f64 / MILLIONTHS as f64
}

/// Dollars as millionths; nothing for what is negative, too much, or finer than a millionth.
pub(crate) fn millionths(dollars: f64) -> Option<u64> {
    if !dollars.is_finite() {
        return None;
    }
    // The shortest decimal that stands for this number, which is the one that was written.
    let written = dollars.to_string();
    let (whole, decimals) = written.split_once('.').unwrap_or((&written, ""));
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= DOLLARS_MAX)?;
    if decimals.len() > 6 {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<6}").parse().ok()?;
    Some(whole * MILLIONTHS + decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_millionth_survives_the_wire() {
        for amount in (0..3_000_000).step_by(7).chain([10_u64.pow(15), 999_999_999_999_999, 123_456_789_123_457]) {
            let written = serde_json::to_string(&dollars(amount)).unwrap();
            let read: f64 = serde_json::from_str(&written).unwrap();
            assert_eq!(millionths(read), Some(amount), "{written}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in [-0.01, 0.000_000_1, 1.000_000_5, 1e16, f64::NAN, f64::INFINITY] {
            assert_eq!(millionths(wrong), None, "{wrong}");
        }
        assert_eq!((millionths(0.0), millionths(5.0), millionths(0.25)), (Some(0), Some(5_000_000), Some(250_000)));
    }
}
