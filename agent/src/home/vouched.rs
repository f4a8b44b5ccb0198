//! Whom this home vouched for lately, and what is to be told of them. Pure.
//!
//! An answer that somebody is gone is believed with care: a database that is being migrated, or a search base with a slip
//! of the pen in it, has no users at all, and that somebody was removed cannot be taken back. So:
//!
//! * who is not there must be missing twice in a row, each time while somebody else was seen to be there;
//! * if more than half of all are out at once, for the first time or not, nobody is reported;
//! * nor is anybody reported as removed if more than half are missing who were not all missed at once: a database that falls
//!   apart is not followed half by half.
//!
//! A lone user is thus never removed by what is seen here; `homeward-agent report` does it.

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
    /// What the broker has heard.
    told: Option<UserEvent>,
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
            Some((id, User { last_at, login: 0, missing: 0, told: None }))
        };
        Self { users: stored.into_iter().filter_map(user).collect(), logins: 0 }
    }

    /// To be stored: identifiers and times, nothing else of anybody, and nothing of who was removed.
    pub(super) fn stored(&self) -> BTreeMap<String, i64> {
        let there = self.users.iter().filter(|(_, user)| user.told != Some(UserEvent::Removed));
        there.map(|(id, user)| (id.clone(), user.last_at.unix_timestamp())).collect()
    }

    /// Somebody is vouched for; whether that is to be stored.
    pub(super) fn vouch(&mut self, home_user_id: &str, now: OffsetDateTime) -> bool {
        self.logins += 1;
        let user = User { last_at: now, login: self.logins, missing: 0, told: None };
        let before = self.users.insert(home_user_id.to_owned(), user);
        if self.users.len() > MOST {
            let oldest = self.users.iter().min_by_key(|(_, user)| user.last_at).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.users.remove(&oldest));
        }
        before.is_none_or(|before| now - before.last_at > NEWS)
    }

    /// All that are to be asked about now.
    pub(super) fn due(&mut self, now: OffsetDateTime) -> Vec<Asked> {
        self.users.retain(|_, user| now - user.last_at <= REMEMBERED);
        let asked = |(id, user): (&String, &User)| Asked { home_user_id: id.clone(), login: user.login };
        self.users.iter().map(asked).collect()
    }

    /// What the answers come to: what the broker is to hear, and of whom.
    pub(super) fn judge(&mut self, answers: &[(Asked, Account)]) -> Result<Vec<(String, UserEvent)>, TooMany> {
        let mut answers = answers.to_vec();
        answers.retain(|(asked, _)| self.users.get(&asked.home_user_id).is_some_and(|user| user.login == asked.login));
        let told = |asked: &Asked| self.users.get(&asked.home_user_id).and_then(|user| user.told);
        let is_out = |(asked, account): &&(Asked, Account)| match account {
            Account::Disabled => told(asked) != Some(UserEvent::Disabled),
            Account::Removed => told(asked) != Some(UserEvent::Removed),
            Account::Active | Account::Unknown => false,
        };
        let (gone, of) = (answers.iter().filter(is_out).count(), self.users.len());
        let count = |wanted| answers.iter().filter(|(_, account)| *account == wanted).count();
        // Of one user, or of two, one may well be gone.
        let most = (of / 2).max(1);
        let (too_many, missing) = (gone > most, count(Account::Removed));
        let believable = !too_many && missing <= most && count(Account::Active) > 0;
        let is_news = |(asked, account): &(Asked, Account)| {
            *account == Account::Removed && told(asked) != Some(UserEvent::Removed)
        };
        if !believable && answers.iter().any(is_news) {
            tracing::warn!(
                missing,
                of,
                "users are not there any more, which is not believed as long as so many are gone or nobody else is seen; if it is true, report them by `homeward-agent report`"
            );
        }
        let mut news = Vec::new();
        for (asked, account) in &answers {
            let Some(user) = self.users.get_mut(&asked.home_user_id) else { continue };
            let event = user.hear(*account, believable);
            news.extend(event.map(|event| (asked.home_user_id.clone(), event)));
        }
        if too_many { Err(TooMany { gone, of }) } else { Ok(news) }
    }

    /// The broker has heard it.
    pub(super) fn told(&mut self, home_user_id: &str, event: UserEvent) {
        if let Some(user) = self.users.get_mut(home_user_id) {
            user.told = Some(event);
        }
    }
}

impl User {
    /// What an answer is news of.
    fn hear(&mut self, account: Account, believable: bool) -> Option<UserEvent> {
        let event = match account {
            Account::Unknown => return None,
            Account::Active => {
                (self.missing, self.told) = (0, None);
                return None;
            }
            Account::Disabled => {
                self.missing = 0;
                UserEvent::Disabled
            }
            Account::Removed => {
                self.missing = if believable { self.missing.saturating_add(1).min(BELIEVED) } else { 0 };
                UserEvent::Removed
            }
        };
        let is_believed = event != UserEvent::Removed || self.missing >= BELIEVED;
        (is_believed && self.told != Some(event)).then_some(event)
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
        let asked = vouched.due(day(1));
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
        assert_eq!(judge(&mut list, only("1", Account::Removed)), Ok(vec![]));
        assert_eq!(list.stored().len(), 1);
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
        let half = |id: &str| if id < "3" { Account::Removed } else { Account::Active };
        assert_eq!(judge(&mut list, half), Ok(vec![]), "what was missing before is not counted");
        let mut alone = vouched(&["1"]);
        assert_eq!(judge(&mut alone, |_| Account::Disabled).unwrap().len(), 1);
    }

    #[test]
    fn a_lone_user_is_never_removed() {
        let mut list = vouched(&["1"]);
        for _ in 0..5 {
            assert_eq!(judge(&mut list, |_| Account::Removed), Ok(vec![]));
        }
        assert_eq!(judge(&mut list, |_| Account::Disabled).unwrap().len(), 1);
    }

    #[test]
    fn a_table_that_is_emptied_in_the_middle_of_a_round_removes_nobody() {
        let mut list = vouched(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let last = |id: &str| if id >= "5" { Account::Removed } else { Account::Active };
        assert_eq!(judge(&mut list, last), Ok(vec![]));
        for _ in 0..3 {
            assert_eq!(judge(&mut list, |_| Account::Removed), Err(TooMany { gone: 10, of: 10 }));
        }
    }

    #[test]
    fn a_database_that_falls_apart_is_not_followed_half_by_half() {
        let mut list = vouched(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let from = |first: &'static str| move |id: &str| if id >= first { Account::Removed } else { Account::Active };
        judge(&mut list, from("5")).unwrap();
        for (user, event) in judge(&mut list, from("5")).unwrap() {
            list.told(&user, event);
        }
        for _ in 0..3 {
            assert_eq!(judge(&mut list, from("3")), Ok(vec![]));
        }
        let disabled = |id: &str| if id == "0" { Account::Disabled } else { from("5")(id) };
        assert_eq!(judge(&mut list, disabled).unwrap(), [("0".to_owned(), UserEvent::Disabled)], "that can be undone");
    }

    #[test]
    fn an_answer_from_before_a_login_is_not_about_it() {
        let mut list = vouched(&["1"]);
        let asked = list.due(day(0)).remove(0);
        list.vouch("1", day(0));
        assert_eq!(list.judge(&[(asked, Account::Disabled)]), Ok(vec![]));
    }

    #[test]
    fn a_restart_forgets_nobody_but_who_has_been_away_for_long() {
        let mut list = vouched(&["1"]);
        assert!(!list.vouch("1", day(0)) && list.vouch("1", day(2)), "stored once a day");
        list.vouch("2", day(20));
        let mut list = Vouched::restore(list.stored());
        assert_eq!(list.due(day(30)).len(), 2);
        assert_eq!(list.due(day(40)).len(), 1);
        for user in 0..=MOST {
            list.vouch(&format!("u{user}"), day(41));
        }
        assert_eq!(list.due(day(41)).len(), MOST);
    }
}
