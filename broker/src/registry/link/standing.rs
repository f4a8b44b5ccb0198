//! Whether a link has an effect: a pure function of when it was made and how its homes stand.

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::registry::{InstanceId, InstanceState, Link, Snapshot};

/// How a home stands, as far as links are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeStanding {
    /// That installation is not here any more.
    Gone,
    /// It is in quarantine.
    CutOff,
    /// It takes part.
    Good {
        /// When it was put into quarantine last.
        last_cut_off_at: Option<Timestamp>,
    },
}

/// Why a link has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkVoid {
    /// It has ended.
    Over,
    /// One of its homes is gone.
    Gone,
    /// One of its homes is in quarantine.
    CutOff,
    /// One of its homes was, since the link was made.
    CutOffSince,
}

/// Whether a link that was made then between homes that stand so has an effect.
///
/// # Errors
/// Why it has none: for good before for now.
pub fn judge_link(made_at: Timestamp, homes: [HomeStanding; 2]) -> Result<(), LinkVoid> {
    if homes.contains(&HomeStanding::Gone) {
        return Err(LinkVoid::Gone);
    }
    if homes.contains(&HomeStanding::CutOff) {
        return Err(LinkVoid::CutOff);
    }
    // Within the same second nobody knows which came first.
    let since =
        |home: &HomeStanding| matches!(home, HomeStanding::Good { last_cut_off_at: Some(at) } if *at >= made_at);
    if homes.iter().any(since) { Err(LinkVoid::CutOffSince) } else { Ok(()) }
}

impl Snapshot {
    /// Whether a link has an effect now, wherever it is allowed.
    ///
    /// # Errors
    /// Why it has none.
    pub fn judge_link(&self, link: &Link) -> Result<(), LinkVoid> {
        if link.is_over {
            return Err(LinkVoid::Over);
        }
        let (primary, alias) = (&link.primary, &link.alias);
        self.judge_homes(link.made_at, [(&primary.home, primary.home_id), (&alias.home, alias.home_id)])
    }

    pub(super) fn judge_homes(
        &self,
        made_at: Timestamp,
        homes: [(&InstanceName, InstanceId); 2],
    ) -> Result<(), LinkVoid> {
        judge_link(made_at, homes.map(|(name, id)| self.home_standing(name, id)))
    }

    /// How this very installation stands.
    fn home_standing(&self, name: &InstanceName, id: InstanceId) -> HomeStanding {
        if self.home_id(name) != Some(id) {
            return HomeStanding::Gone;
        }
        let instance = self.instance(name);
        if instance.is_some_and(|instance| matches!(instance.state, InstanceState::Quarantined { .. })) {
            return HomeStanding::CutOff;
        }
        HomeStanding::Good { last_cut_off_at: instance.and_then(|instance| instance.last_cut_off_at) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_home_that_was_cut_off_since_voids_a_link_for_good() {
        use HomeStanding::{CutOff, Gone};
        let made = Timestamp::from_secs(1_800_000_000);
        let (before, after) = (made - Duration::from_secs(1), made + Duration::from_secs(1));
        let good = |at: Option<Timestamp>| HomeStanding::Good { last_cut_off_at: at };
        for (one, other, expected) in [
            (good(None), good(None), Ok(())),
            (good(Some(before)), good(None), Ok(())),
            (good(Some(made)), good(None), Err(LinkVoid::CutOffSince)),
            (good(None), good(Some(after)), Err(LinkVoid::CutOffSince)),
            (CutOff, good(None), Err(LinkVoid::CutOff)),
            (CutOff, good(Some(after)), Err(LinkVoid::CutOff)),
            (Gone, CutOff, Err(LinkVoid::Gone)),
            (good(None), Gone, Err(LinkVoid::Gone)),
        ] {
            assert_eq!(judge_link(made, [one, other]), expected, "{one:?} {other:?}");
            assert_eq!(judge_link(made, [other, one]), expected, "{other:?} {one:?}");
        }
    }
}
