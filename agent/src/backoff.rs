//! How long to wait before the next try: full jitter, drawn after the cap, so that a fleet that waits at the cap is
//! still spread out (a jitter that the cap cuts away sends everyone back on the same tick).

use std::time::Duration;

/// Waits that grow from `floor` to `cap`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    floor: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `floor`.
    pub(crate) fn new(floor: Duration, cap: Duration) -> Self {
        Self { floor, cap, failures: 0 }
    }

    /// One more failure: how long to wait now. `fraction` is uniform in 0..1.
    pub(crate) fn next(&mut self, fraction: f64) -> Duration {
        let ceiling = self.floor.saturating_mul(1 << self.failures.min(20)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        // Never quite zero: a broker that refuses at once must not be asked in a tight loop.
        ceiling.mul_f64(fraction.clamp(0.0, 1.0)).max(self.floor / 10)
    }

    /// It worked for long enough.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `duration`, spread by `share` to both sides. `fraction` is uniform in 0..1.
pub(crate) fn spread(duration: Duration, share: f64, fraction: f64) -> Duration {
    duration.mul_f64(1.0 + share * (2.0 * fraction.clamp(0.0, 1.0) - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(300);

    #[test]
    fn waits_grow_to_the_cap_and_stay_there() {
        let mut backoff = Backoff::new(FLOOR, CAP);
        let ceilings: Vec<u64> = (0..12).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FLOOR);
    }

    #[test]
    fn waits_at_the_cap_are_still_spread() {
        let mut backoff = Backoff::new(FLOOR, CAP);
        for _ in 0..100 {
            backoff.next(0.5);
        }
        assert_eq!(backoff.next(0.25), Duration::from_secs(75));
        assert_eq!(backoff.next(0.0), FLOOR / 10);
    }

    #[test]
    fn a_spread_has_both_its_bounds() {
        let half_life = Duration::from_secs(43_200);
        assert_eq!(spread(half_life, 0.1, 0.0), Duration::from_secs(38_880));
        assert_eq!(spread(half_life, 0.1, 0.5), half_life);
        assert_eq!(spread(half_life, 0.1, 1.0), Duration::from_secs(47_520));
    }
}
