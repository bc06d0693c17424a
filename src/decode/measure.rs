//! What log-probabilities say of a text in one number: perplexity, and bits for each byte.

use super::Logprobs;

/// Sums over a text, or over several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// Its tokens.
    pub n_tokens: usize,
    /// Its bytes; a token that ends it has none.
    pub n_bytes: usize,
    /// The sum of the log-probabilities that there are, in nats.
    pub logprob: f64,
    n_scored: usize,
    scored_bytes: usize,
}

impl Measure {
    /// A text whose tokens have so many bytes each, with the log-probabilities of the last of them.
    ///
    /// # Panics
    /// If there are fewer tokens than log-probabilities.
    pub fn new(token_bytes: &[usize], logprobs: &Logprobs) -> Self {
        let n_scored = logprobs.tokens.len();
        let scored = &token_bytes[token_bytes.len() - n_scored..];
        Self {
            n_tokens: token_bytes.len(),
            n_bytes: token_bytes.iter().sum(),
            logprob: logprobs.tokens.iter().map(|&l| f64::from(l)).sum(),
            n_scored,
            scored_bytes: scored.iter().sum(),
        }
    }

    /// Adds another text's sums.
    pub fn add(&mut self, other: &Self) {
        self.n_tokens += other.n_tokens;
        self.n_bytes += other.n_bytes;
        self.logprob += other.logprob;
        self.n_scored += other.n_scored;
        self.scored_bytes += other.scored_bytes;
    }

    /// `exp(-logprob / tokens)` over the tokens that have a log-probability; `None` without any.
    pub fn perplexity(&self) -> Option<f64> {
        (self.n_scored > 0).then(|| (-self.logprob / self.n_scored as f64).exp())
    }

    /// `-logprob / ln 2 / bytes` over the same tokens' bytes; `None` without any.
    pub fn bits_per_byte(&self) -> Option<f64> {
        let bits = -self.logprob / std::f64::consts::LN_2;
        (self.scored_bytes > 0).then(|| bits / self.scored_bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logprobs(tokens: &[f32]) -> Logprobs {
        Logprobs {
            tokens: tokens.to_vec(),
            top: Vec::new(),
        }
    }

    #[test]
    fn perplexity_and_bits_are_over_the_tokens_that_are_scored() {
        let quarter = 0.25f32.ln();
        // The last token ends the text and has no bytes.
        let whole = Measure::new(&[3, 1, 0], &logprobs(&[quarter; 3]));
        assert!((whole.perplexity().unwrap() - 4.0).abs() < 1e-6);
        assert!((whole.bits_per_byte().unwrap() - 6.0 / 4.0).abs() < 1e-6);
        // The first token has no log-probability.
        let rest = Measure::new(&[3, 1, 1], &logprobs(&[quarter; 2]));
        assert_eq!((rest.n_tokens, rest.n_bytes), (3, 5));
        assert!((rest.perplexity().unwrap() - 4.0).abs() < 1e-6);
        assert!((rest.bits_per_byte().unwrap() - 4.0 / 2.0).abs() < 1e-6);
        let mut both = whole;
        both.add(&rest);
        assert_eq!((both.n_tokens, both.n_bytes), (6, 9));
        assert!((both.perplexity().unwrap() - 4.0).abs() < 1e-6);
        assert!((both.bits_per_byte().unwrap() - 10.0 / 6.0).abs() < 1e-6);
    }

    #[test]
    fn a_single_token_without_context_has_no_perplexity() {
        let one = Measure::new(&[3], &logprobs(&[]));
        assert_eq!((one.perplexity(), one.bits_per_byte()), (None, None));
        assert_eq!((one.n_tokens, one.n_bytes, one.logprob), (1, 3, 0.0));
    }
}
