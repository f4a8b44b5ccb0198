//! Which proofs were used already (RFC 9449 11.1).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::oidc::dpop::proof::{MAX_AGE, ProofId, SKEW};

/// Most proofs that are remembered in one generation: with both, some ten MiB. When there are more, the oldest are
/// forgotten early; their nonce limits what that is worth.
const MOST: usize = 1 << 17;

/// Remembers proofs for as long as they could be used: in two generations, of which the older is forgotten whole.
#[derive(Debug, Default)]
pub(in crate::oidc) struct Replays(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashSet<ProofId>,
    previous: HashSet<ProofId>,
    turned_at: Option<Timestamp>,
}

impl Replays {
    /// Whether nobody has used this proof before. Afterwards somebody has.
    pub(super) fn is_first(&self, id: ProofId, now: Timestamp) -> bool {
        // Nothing panics while it is held; what is in there is right in any case.
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.turn(now);
        !generations.previous.contains(&id) && generations.current.insert(id)
    }
}

impl Generations {
    fn turn(&mut self, now: Timestamp) {
        let turned_at = *self.turned_at.get_or_insert(now);
        // A proof that is from the future as far as it may be is good until this much later.
        if now.since(turned_at) > MAX_AGE + SKEW || self.current.len() >= MOST {
            self.previous = std::mem::take(&mut self.current);
            self.turned_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_proof_is_remembered_for_as_long_as_it_could_be_used() {
        let replays = Replays::default();
        // Whenever in a generation it is used.
        for start in [0, 1, 75, 149, 150, 151, 400] {
            let (used_at, id) = (NOW + Duration::from_secs(start), [u8::try_from(start % 251).unwrap(); 16]);
            assert!(replays.is_first(id, used_at), "{start}");
            assert!(!replays.is_first(id, used_at), "{start}");
        }
        let (used_at, id) = (NOW + Duration::from_secs(500), [255; 16]);
        assert!(replays.is_first(id, used_at));
        for later in [1, 75, 150] {
            assert!(!replays.is_first(id, used_at + Duration::from_secs(later)), "{later}");
        }
    }

    #[test]
    fn a_flood_is_not_remembered_without_bound() {
        let replays = Replays::default();
        for n in 0..300_000_u128 {
            assert!(replays.is_first(n.to_be_bytes(), NOW));
        }
        let generations = replays.0.lock().unwrap();
        assert!(generations.current.len() + generations.previous.len() <= 2 * MOST);
    }
}
