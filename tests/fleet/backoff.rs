//! How long to wait before the next connection, as an agent does: the first time as wide as the broker asked for,
//! because everybody lost it at the same moment; then full jitter, drawn after the cap.

use std::time::Duration;

const FLOOR: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(300);

/// Tries that failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// One more failure. `fraction` is uniform in 0..1.
    pub(crate) fn next(&mut self, fraction: f64) -> Duration {
        let ceiling = FLOOR.saturating_mul(1 << self.0.min(20)).min(CAP);
        self.0 = self.0.saturating_add(1);
        ceiling.mul_f64(fraction)
    }

    /// It worked for long enough.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Uniform in 0..1: one half if the machine gives no randomness, because a spread is a courtesy and not a secret.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0; 4];
    let drawn = aws_lc_rs::rand::fill(&mut bytes);
    drawn.map_or(0.5, |()| f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(500));
        assert!((0..100).map(|_| fraction()).all(|drawn| (0.0..1.0).contains(&drawn)));
    }
}
