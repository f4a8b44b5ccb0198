//! Whom this home vouched for lately, and what is to be told of them. Pure.
//!
//! An answer that somebody is gone is believed with care: a database that is being migrated, or a search base with a slip
//! of the pen in it, has no users at all. So who is not there must be missing twice in a row, and if more than half of all
//! are out at once, nobody is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use homeward_proto::v1::UserEvent;
use thiserror::Error;
use time::OffsetDateTime;

use super::directory::Account;

/// How long after the last login somebody is asked about: longer than anything that rests on a login lasts.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many users.
const MOST: usize = 5000;
/// A later login is news only after so long.
const NEWS: Duration = Duration::from_secs(24 * 3600);
/// How often in a row somebody must be missing.
const BELIEVED: u8 = 2;

/// Whom this home vouched for.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    users: BTreeMap<String, User>,
    logins: u64,
}

#[derive(Debug)]
struct User {
    last_at: OffsetDateTime,
    /// Which login that was: an answer to a question from before it is not about this user any more.
    login: u64,
    missing: u8,
    is_told: bool,
}

/// A user to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) home_user_id: String,
    login: u64,
}

/// More than can be believed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{gone} of {of} users who logged in elsewhere lately are disabled or gone at once; nobody is reported, because this looks like a database that is being moved. Check [home.accounts] of the recipe; if it is true, report them by `homeward-agent report`"
)]
pub(super) struct TooMany {
    gone: usize,
    of: usize,
}

impl Vouched {
    /// Those that were stored: when each logged in last, in seconds since 1970.
    pub(super) fn restore(stored: BTreeMap<String, i64>) -> Self {
        let user = |(id, seconds)| {
            let last_at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
            Some((id, User { last_at, login: 0, missing: 0, is_told: false }))
        };
        Self { users: stored.into_iter().filter_map(user).collect(), logins: 0 }
    }

    /// To be stored: identifiers and times, nothing else of anybody.
    pub(super) fn stored(&self) -> BTreeMap<String, i64> {
        self.users.iter().map(|(id, user)| (id.clone(), user.last_at.unix_timestamp())).collect()
    }

    /// Somebody is vouched for; whether that is to be stored.
    pub(super) fn vouch(&mut self, home_user_id: &str, now: OffsetDateTime) -> bool {
        self.logins += 1;
        let user = User { last_at: now, login: self.logins, missing: 0, is_told: false };
        let before = self.users.insert(home_user_id.to_owned(), user);
        if self.users.len() > MOST {
            let oldest = self.users.iter().min_by_key(|(_, user)| user.last_at).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.users.remove(&oldest));
        }
        before.is_none_or(|before| now - before.last_at > NEWS)
    }

    /// All that are to be asked about now.
    pub(super) fn to_ask(&mut self, now: OffsetDateTime) -> Vec<Asked> {
        self.users.retain(|_, user| now - user.last_at <= REMEMBERED);
        let asked = |(id, user): (&String, &User)| Asked { home_user_id: id.clone(), login: user.login };
        self.users.iter().map(asked).collect()
    }

    /// What the answers come to: what the broker is to hear, and of whom.
    pub(super) fn judge(&mut self, answers: &[(Asked, Account)]) -> Result<Vec<(String, UserEvent)>, TooMany> {
        let mut news = Vec::new();
        for (asked, account) in answers {
            let Some(user) = self.users.get_mut(&asked.home_user_id).filter(|user| user.login == asked.login) else {
                continue;
            };
            match account {
                Account::Unknown => continue,
                Account::Active => (user.missing, user.is_told) = (0, false),
                Account::Disabled => user.missing = 0,
                Account::Removed => user.missing = user.missing.saturating_add(1).min(BELIEVED),
            }
            match account {
                Account::Disabled if !user.is_told => news.push((asked.home_user_id.clone(), UserEvent::Disabled)),
                Account::Removed if user.missing >= BELIEVED => {
                    news.push((asked.home_user_id.clone(), UserEvent::Removed));
                }
                Account::Unknown | Account::Active | Account::Disabled | Account::Removed => {}
            }
        }
        // Of one user, or of two, one may well be gone.
        let (gone, of) = (news.len(), self.users.len());
        if gone > (of / 2).max(1) { Err(TooMany { gone, of }) } else { Ok(news) }
    }

    /// The broker has heard it. Who was removed is nobody any more; who is disabled may come back.
    pub(super) fn told(&mut self, home_user_id: &str, event: UserEvent) {
        match event {
            UserEvent::Removed => {
                self.users.remove(home_user_id);
            }
            UserEvent::Disabled | UserEvent::LoggedOut | UserEvent::Unspecified => {
                if let Some(user) = self.users.get_mut(home_user_id) {
                    user.is_told = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::days(n)
    }

    fn vouched(users: &[&str]) -> Vouched {
        let mut vouched = Vouched::default();
        for user in users {
            assert!(vouched.vouch(user, day(0)), "new");
        }
        vouched
    }

    fn judge(vouched: &mut Vouched, answer: impl Fn(&str) -> Account) -> Result<Vec<(String, UserEvent)>, TooMany> {
        let asked = vouched.to_ask(day(1));
        let answers: Vec<_> = asked.into_iter().map(|asked| (asked.clone(), answer(&asked.home_user_id))).collect();
        vouched.judge(&answers)
    }

    fn only(user: &'static str, account: Account) -> impl Fn(&str) -> Account {
        move |id| if id == user { account } else { Account::Active }
    }

    #[test]
    fn who_is_disabled_is_told_until_the_broker_has_heard() {
        let mut list = vouched(&["1", "2"]);
        let news = vec![("1".to_owned(), UserEvent::Disabled)];
        assert_eq!(judge(&mut list, only("1", Account::Disabled)), Ok(news.clone()));
        assert_eq!(judge(&mut list, only("1", Account::Disabled)), Ok(news.clone()));
        list.told("1", UserEvent::Disabled);
        assert_eq!(judge(&mut list, only("1", Account::Disabled)), Ok(vec![]));
        assert_eq!(judge(&mut list, |_| Account::Unknown), Ok(vec![]));
        assert_eq!(judge(&mut list, |_| Account::Active), Ok(vec![]));
        assert_eq!(judge(&mut list, only("1", Account::Disabled)), Ok(news), "again");
    }

    #[test]
    fn who_is_missing_is_missed_twice_in_a_row() {
        let mut list = vouched(&["1", "2"]);
        let news = Ok(vec![("1".to_owned(), UserEvent::Removed)]);
        assert_eq!(judge(&mut list, only("1", Account::Removed)), Ok(vec![]));
        assert_eq!(judge(&mut list, |_| Account::Active), Ok(vec![]));
        assert_eq!(judge(&mut list, only("1", Account::Removed)), Ok(vec![]));
        assert_eq!(judge(&mut list, |_| Account::Unknown), Ok(vec![]), "no answer is no sighting");
        assert_eq!(judge(&mut list, only("1", Account::Removed)), news);
        assert_eq!(judge(&mut list, only("1", Account::Removed)), news, "until it is told");
        list.told("1", UserEvent::Removed);
        assert_eq!(list.to_ask(day(1)).len(), 1);
    }

    #[test]
    fn a_database_that_is_being_moved_logs_nobody_out() {
        let mut list = vouched(&["1", "2", "3", "4", "5"]);
        for _ in 0..2 {
            let _ = judge(&mut list, |_| Account::Removed);
        }
        assert_eq!(judge(&mut list, |_| Account::Removed), Err(TooMany { gone: 5, of: 5 }));
        assert_eq!(judge(&mut list, |_| Account::Disabled), Err(TooMany { gone: 5, of: 5 }));
        assert_eq!(judge(&mut list, |_| Account::Active), Ok(vec![]));
        let half = |id: &str| if id < "3" { Account::Disabled } else { Account::Active };
        assert_eq!(judge(&mut list, half).unwrap().len(), 2);
        let mut alone = vouched(&["1"]);
        assert_eq!(judge(&mut alone, |_| Account::Disabled).unwrap().len(), 1);
    }

    #[test]
    fn an_answer_from_before_a_login_is_not_about_it() {
        let mut list = vouched(&["1"]);
        let asked = list.to_ask(day(0)).remove(0);
        list.vouch("1", day(0));
        assert_eq!(list.judge(&[(asked, Account::Disabled)]), Ok(vec![]));
    }

    #[test]
    fn a_restart_forgets_nobody_but_who_has_been_away_for_long() {
        let mut list = vouched(&["1"]);
        assert!(!list.vouch("1", day(0)) && list.vouch("1", day(2)), "stored once a day");
        list.vouch("2", day(20));
        let mut list = Vouched::restore(list.stored());
        assert_eq!(list.to_ask(day(30)).len(), 2);
        assert_eq!(list.to_ask(day(40)).len(), 1);
        for user in 0..=MOST {
            list.vouch(&format!("u{user}"), day(41));
        }
        assert_eq!(list.to_ask(day(41)).len(), MOST);
    }
}
