//! Whom to ask the application about again: the browsers that this home vouched for by their cookies. Pure but for the
//! lock's sake; bounded in every way that strangers could fill it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::time::Instant;

/// How many browsers.
const MOST: usize = 1000;
/// How many of one user.
const MOST_OF_USER: usize = 4;
/// Longest cookies of one browser, in bytes; it is not watched if it brings more.
const LONGEST_COOKIES: usize = 4096;
/// How many bytes of cookies altogether.
const MOST_BYTES: usize = 1024 * 1024;
/// How long a browser is watched after its login. An application may take each question for activity of the user, and
/// keep a session alive that nobody uses: that must end.
const LONGEST_WATCH: Duration = Duration::from_secs(12 * 3600);

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Watchlist {
    browsers: VecDeque<Browser>,
    last_id: u64,
}

/// Cookies of a browser, for its application only. Never printed.
#[derive(Clone)]
pub(super) struct Cookies(SecretSlice<u8>);

/// A browser that somebody was signed in with when this home vouched for him.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    id: u64,
    pub(super) home_user_id: String,
    pub(super) cookies: Cookies,
    pub(super) source: IpAddr,
    /// What the application said last.
    pub(super) known: Known,
    since: Instant,
    due: Instant,
}

/// What is known of a browser's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was there when the application was last asked.
    There,
    /// It is gone, and the broker does not know it yet.
    Gone,
}

impl Cookies {
    pub(super) fn new(header: &HeaderValue) -> Self {
        Self(header.as_bytes().to_vec().into())
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::from_bytes(self.0.expose_secret()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    pub(super) fn are(&self, header: &HeaderValue) -> bool {
        self.0.expose_secret() == header.as_bytes()
    }

    fn len(&self) -> usize {
        self.0.expose_secret().len()
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies(…)")
    }
}

impl Watchlist {
    /// One more browser, to be asked about at `due`. The same cookies of the same user are the same browser.
    pub(super) fn add(&mut self, home_user_id: &str, cookies: Cookies, source: IpAddr, (now, due): (Instant, Instant)) {
        if cookies.len() > LONGEST_COOKIES {
            return;
        }
        self.browsers.retain(|browser| {
            browser.home_user_id != home_user_id || browser.cookies.0.expose_secret() != cookies.0.expose_secret()
        });
        let of_user = self.browsers.iter().filter(|browser| browser.home_user_id == home_user_id).count();
        if of_user >= MOST_OF_USER {
            let oldest = self.browsers.iter().position(|browser| browser.home_user_id == home_user_id);
            oldest.and_then(|oldest| self.browsers.remove(oldest));
        }
        self.last_id += 1;
        let (id, home_user_id) = (self.last_id, home_user_id.to_owned());
        self.browsers.push_back(Browser { id, home_user_id, cookies, source, known: Known::There, since: now, due });
        let bytes = |list: &Self| list.browsers.iter().map(|browser| browser.cookies.len()).sum::<usize>();
        while self.browsers.len() > MOST || bytes(self) > MOST_BYTES {
            self.browsers.pop_front();
        }
    }

    /// When the next question is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.browsers.iter().map(|browser| browser.due).min()
    }

    /// A browser whose question is due; `again` is when the one after it will be. Forgets those that were watched long
    /// enough, unless there is something left to tell of them.
    pub(super) fn take_due(&mut self, now: Instant, again: Instant) -> Option<Browser> {
        self.browsers.retain(|browser| browser.known == Known::Gone || now < browser.since + LONGEST_WATCH);
        let browser =
            self.browsers.iter_mut().filter(|browser| browser.due <= now).min_by_key(|browser| browser.due)?;
        browser.due = again;
        Some(browser.clone())
    }

    /// All of one user.
    pub(super) fn of_user(&self, home_user_id: &str) -> Vec<Browser> {
        self.browsers.iter().filter(|browser| browser.home_user_id == home_user_id).cloned().collect()
    }

    /// The application does not know this one any more.
    pub(super) fn mark_gone(&mut self, gone: &Browser) {
        if let Some(browser) = self.browsers.iter_mut().find(|browser| browser.id == gone.id) {
            browser.known = Known::Gone;
        }
    }

    /// The number of the newest browser: what is forgotten because of a report does not reach beyond what was there when
    /// the report began.
    pub(super) fn newest(&self) -> u64 {
        self.last_id
    }

    /// Forgets a user's browsers up to that one.
    pub(super) fn forget_user(&mut self, home_user_id: &str, newest: u64) {
        self.browsers.retain(|browser| browser.home_user_id != home_user_id || browser.id > newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const MINUTE: Duration = Duration::from_secs(60);

    fn cookies(text: &str) -> Cookies {
        Cookies::new(&HeaderValue::from_str(text).unwrap())
    }

    fn users(list: &Watchlist) -> Vec<&str> {
        list.browsers.iter().map(|browser| browser.home_user_id.as_str()).collect()
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_no_user_takes_the_place_of_others() {
        let (mut list, now) = (Watchlist::default(), Instant::now());
        let mut add = |user: &str, text: &str| list.add(user, cookies(text), HERE, (now, now));
        add("bob", "s=b");
        for session in 0..10 {
            add("alice", &format!("s={session}"));
        }
        add("alice", "s=9");
        add("carol", &format!("s={}", "x".repeat(LONGEST_COOKIES)));
        assert_eq!(users(&list), ["bob", "alice", "alice", "alice", "alice"]);
        for user in 0..MOST {
            list.add(&format!("user{user}"), cookies(&"x".repeat(2000)), HERE, (now, now));
        }
        assert!(list.browsers.len() <= MOST_BYTES / 2000 && list.of_user("bob").is_empty());
        assert_eq!(users(&list).last(), Some(&"user999"));
    }

    #[test]
    fn each_is_due_in_turn_and_for_so_long() {
        let (mut list, now) = (Watchlist::default(), Instant::now());
        list.add("alice", cookies("s=a"), HERE, (now, now + MINUTE));
        list.add("bob", cookies("s=b"), HERE, (now, now + MINUTE / 2));
        assert_eq!(list.next_due(), Some(now + MINUTE / 2));
        let mut take = |at: Instant| list.take_due(at, at + MINUTE).map(|browser| browser.home_user_id);
        assert_eq!(take(now), None);
        assert_eq!(take(now + MINUTE).as_deref(), Some("bob"));
        assert_eq!(take(now + MINUTE).as_deref(), Some("alice"));
        assert_eq!(take(now + MINUTE), None);
        let alice = list.of_user("alice").remove(0);
        list.mark_gone(&alice);
        let late = now + LONGEST_WATCH;
        assert_eq!(list.take_due(late, late + MINUTE).map(|browser| browser.known), Some(Known::Gone));
        assert_eq!(users(&list), ["alice"], "bob was watched long enough; of alice there is something to tell");
    }

    #[test]
    fn a_report_forgets_nothing_that_came_after_it_began() {
        let (mut list, now) = (Watchlist::default(), Instant::now());
        list.add("alice", cookies("s=a"), HERE, (now, now));
        let newest = list.newest();
        list.add("alice", cookies("s=b"), HERE, (now, now));
        list.forget_user("alice", newest);
        assert_eq!(list.of_user("alice").len(), 1);
    }

    #[test]
    fn cookies_are_not_printed() {
        let mut list = Watchlist::default();
        list.add("alice", cookies("s=canary"), HERE, (Instant::now(), Instant::now()));
        assert!(!format!("{list:?} {:?}", list.browsers[0].cookies.header()).contains("canary"));
    }
}
