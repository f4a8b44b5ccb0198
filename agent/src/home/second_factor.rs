//! Sign-ins that wait for a code: the user has proved the password and is looking for the phone.
//!
//! They are in memory only, a bounded number, for five minutes. Each belongs to one ticket in one browser, and is taken
//! out while a code is tried: two codes at once are not two tries of one count. Whatever is dropped here, for its age or
//! to make room, ends its session at the application ([`SignIn`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::directory::password::SignIn;
use super::form_token::Browser;
use super::ticket::Ticket;

/// How many.
const MOST: usize = 256;
/// How many of one user name: who knows one password takes no room from others.
const MOST_OF_NAME: usize = 4;
/// How long.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Sign-ins that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingSignIns(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// The oldest first.
    list: VecDeque<Pending>,
    /// Whether a task waits for the oldest to become too old.
    is_swept: bool,
}

#[derive(Debug)]
struct Pending {
    browser: Browser,
    ticket: Ticket,
    sign_in: Box<SignIn>,
    until: Instant,
}

impl PendingSignIns {
    /// Keeps a sign-in until its code comes, in place of an earlier one of this login.
    pub(super) fn keep(&self, (browser, ticket): (&Browser, &Ticket), sign_in: Box<SignIn>, now: Instant) {
        self.keep_until((browser, ticket), sign_in, now + LIFETIME);
    }

    /// Keeps a sign-in for as long as it had.
    pub(super) fn keep_until(&self, (browser, ticket): (&Browser, &Ticket), sign_in: Box<SignIn>, until: Instant) {
        let mut waiting = self.lock();
        let list = &mut waiting.list;
        list.retain(|pending| !pending.is_of(browser, ticket));
        let of_name = |pending: &Pending| pending.sign_in.username() == sign_in.username();
        if list.iter().filter(|pending| of_name(pending)).count() >= MOST_OF_NAME {
            let oldest = list.iter().position(of_name);
            oldest.and_then(|oldest| list.remove(oldest));
        }
        if list.len() >= MOST {
            list.pop_front();
        }
        let (browser, ticket) = (browser.clone(), ticket.clone());
        let place = list.partition_point(|pending| pending.until <= until);
        list.insert(place, Pending { browser, ticket, sign_in, until });
        if !waiting.is_swept {
            waiting.is_swept = true;
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Takes the sign-in of this login out, and how long it would have been kept.
    pub(super) fn take(&self, browser: &Browser, ticket: &Ticket, now: Instant) -> Option<(Box<SignIn>, Instant)> {
        let mut waiting = self.lock();
        let is_this = |pending: &Pending| pending.is_of(browser, ticket) && pending.until > now;
        let position = waiting.list.iter().position(is_this)?;
        waiting.list.remove(position).map(|pending| (pending.sign_in, pending.until))
    }

    /// Forgets what is too old, until there is nothing left: the application's sessions must not wait for the next
    /// visitor to be ended.
    async fn sweep(self) {
        while let Some(oldest) = self.oldest() {
            tokio::time::sleep_until(oldest).await;
            self.lock().list.retain(|pending| pending.until > oldest);
        }
    }

    /// When the oldest is too old; without any, nothing is swept any more.
    fn oldest(&self) -> Option<Instant> {
        let mut waiting = self.lock();
        let oldest = waiting.list.front().map(|pending| pending.until);
        waiting.is_swept = oldest.is_some();
        oldest
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn is_of(&self, browser: &Browser, ticket: &Ticket) -> bool {
        self.browser == *browser && self.ticket == *ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_code_that_is_not_tried_makes_no_sign_in_wait_longer() {
        let (pending, browser, ticket) = (PendingSignIns::default(), Browser::new().unwrap(), "t".parse().unwrap());
        let now = Instant::now();
        pending.keep((&browser, &ticket), SignIn::waiting("otto"), now);
        let later = now + LIFETIME - Duration::from_secs(1);
        let (sign_in, until) = pending.take(&browser, &ticket, later).unwrap();
        pending.keep_until((&browser, &ticket), sign_in, until);
        assert!(pending.take(&browser, &ticket, now + LIFETIME).is_none());
    }
}
