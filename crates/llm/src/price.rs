//! What tokens cost.

use crate::Usage;

/// Millionths of a dollar, or of whatever currency the prices are in.
pub type Cost = u64;

/// The price of a model's tokens, in millionths for a million of them: 3 dollars a million is 3 000 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of what is asked.
    pub input: u64,
    /// Of answers.
    pub output: u64,
    /// Of what is asked and was kept by the provider; as `input` where absent.
    pub cached_input: Option<u64>,
    /// Of what is asked and kept from now on; as `input` where absent.
    pub cache_write: Option<u64>,
}

impl Price {
    /// What that usage costs, rounded up. What the provider did not count, costs what `assumed` says.
    pub fn of(&self, usage: &Usage, assumed: &Usage) -> Cost {
        let input = usage.input_tokens.or(assumed.input_tokens).unwrap_or(0);
        let output = usage.output_tokens.or(assumed.output_tokens).unwrap_or(0);
        let cached = usage.cached_input_tokens.unwrap_or(0).min(input);
        let written = usage.cache_write_tokens.unwrap_or(0).min(input - cached);
        let kinds = [
            (input - cached - written, self.input),
            (cached, self.cached_input.unwrap_or(self.input)),
            (written, self.cache_write.unwrap_or(self.input)),
            (output, self.output),
        ];
        let of_kind = |(tokens, price)| u128::from(tokens) * u128::from(price);
        let millionths = kinds.map(of_kind).into_iter().fold(0, u128::saturating_add);
        u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_has_its_price() {
        let price = Price { input: 3_000_000, output: 15_000_000, cached_input: Some(300_000), cache_write: None };
        let usage = Usage {
            input_tokens: Some(1_000),
            output_tokens: Some(10),
            cached_input_tokens: Some(900),
            ..Usage::default()
        };
        assert_eq!(price.of(&usage, &Usage::default()), 100 * 3 + 270 + 150);
        let assumed = Usage { input_tokens: Some(7), output_tokens: Some(1), ..Usage::default() };
        assert_eq!(price.of(&Usage::default(), &assumed), 36);
        let dear = Price { input: u64::MAX, output: u64::MAX, cached_input: None, cache_write: None };
        let much = Usage { input_tokens: Some(u64::MAX), output_tokens: Some(u64::MAX), ..Usage::default() };
        assert_eq!(dear.of(&much, &assumed), u64::MAX);
        let cheap = Price { input: 1, output: 0, cached_input: None, cache_write: None };
        assert_eq!(cheap.of(&assumed, &assumed), 1, "rounded up");
    }
}
