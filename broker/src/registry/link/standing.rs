//! Whether a link has an effect: a pure function of how its homes stood when it was made, and how they stand.

use homeward_certs::identity::InstanceName;

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
        /// How often it was in quarantine.
        quarantines: u32,
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

/// Whether a link has an effect between homes that stand so, and had been in quarantine so often when it was made.
///
/// # Errors
/// Why it has none: for good before for now.
pub fn judge_link(before: [u32; 2], homes: [HomeStanding; 2]) -> Result<(), LinkVoid> {
    if homes.contains(&HomeStanding::Gone) {
        return Err(LinkVoid::Gone);
    }
    if homes.contains(&HomeStanding::CutOff) {
        return Err(LinkVoid::CutOff);
    }
    let as_before = before.map(|quarantines| HomeStanding::Good { quarantines });
    if homes == as_before { Ok(()) } else { Err(LinkVoid::CutOffSince) }
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
        let before = [primary.quarantines, alias.quarantines];
        self.judge_homes(before, [(&primary.home, primary.home_id), (&alias.home, alias.home_id)])
    }

    pub(super) fn judge_homes(
        &self,
        before: [u32; 2],
        homes: [(&InstanceName, InstanceId); 2],
    ) -> Result<(), LinkVoid> {
        judge_link(before, homes.map(|(name, id)| self.home_standing(name, id)))
    }

    /// How this very installation stands.
    fn home_standing(&self, name: &InstanceName, id: InstanceId) -> HomeStanding {
        if self.home_id(name) != Some(id) {
            return HomeStanding::Gone;
        }
        if self.instance(name).is_some_and(|it| matches!(it.state, InstanceState::Quarantined { .. })) {
            return HomeStanding::CutOff;
        }
        HomeStanding::Good { quarantines: self.quarantines(name) }
    }

    /// How often a home was in quarantine; one without agent never is.
    pub fn quarantines(&self, name: &InstanceName) -> u32 {
        self.instance(name).map_or(0, |instance| instance.quarantines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_was_cut_off_since_voids_a_link_for_good() {
        use HomeStanding::{CutOff, Gone};
        let good = |quarantines| HomeStanding::Good { quarantines };
        for (one, other, expected) in [
            (good(1), good(2), Ok(())),
            (good(2), good(2), Err(LinkVoid::CutOffSince)),
            (good(1), good(3), Err(LinkVoid::CutOffSince)),
            (CutOff, good(2), Err(LinkVoid::CutOff)),
            (CutOff, good(3), Err(LinkVoid::CutOff)),
            (Gone, CutOff, Err(LinkVoid::Gone)),
            (good(1), Gone, Err(LinkVoid::Gone)),
        ] {
            assert_eq!(judge_link([1, 2], [one, other]), expected, "{one:?} {other:?}");
            assert_eq!(judge_link([2, 1], [other, one]), expected, "{other:?} {one:?}");
        }
    }
}
