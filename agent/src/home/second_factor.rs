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

/// Sign-ins that wait, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingSignIns(Arc<Mutex<VecDeque<Pending>>>);

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
        let until = now + LIFETIME;
        let mut list = self.lock();
        list.retain(|pending| !pending.is_of(browser, ticket));
        let of_name = |pending: &Pending| pending.sign_in.username() == sign_in.username();
        if list.iter().filter(|pending| of_name(pending)).count() >= MOST_OF_NAME {
            let oldest = list.iter().position(of_name);
            oldest.and_then(|oldest| list.remove(oldest));
        }
        if list.len() >= MOST {
            list.pop_front();
        }
        list.push_back(Pending { browser: browser.clone(), ticket: ticket.clone(), sign_in, until });
        drop(list);
        // The application's session must not wait for the next visitor to be ended.
        let all = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            all.lock().retain(|pending| pending.until > until);
        });
    }

    /// Takes the sign-in of this login out.
    pub(super) fn take(&self, browser: &Browser, ticket: &Ticket, now: Instant) -> Option<Box<SignIn>> {
        let mut list = self.lock();
        let position = list.iter().position(|pending| pending.is_of(browser, ticket) && pending.until > now)?;
        list.remove(position).map(|pending| pending.sign_in)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn is_of(&self, browser: &Browser, ticket: &Ticket) -> bool {
        self.browser == *browser && self.ticket == *ticket
    }
}
