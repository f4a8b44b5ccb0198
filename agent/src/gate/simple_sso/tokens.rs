//! Tokens of logins that are under way: five minutes, in memory, and each taken once. A request token is turned into an
//! access token when somebody is signed in; an access token into the user when its client asks. Both are kept as digests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use url::Url;

use crate::gate::session::Session;
use crate::random::{self, NoRandomness};

/// How long a token is good.
const LIFETIME: Duration = Duration::minutes(5);
/// How long after that it is still known what became of it.
const REMEMBERED: Duration = Duration::minutes(10);
/// How many there may be; the oldest goes first.
const MOST: usize = 10_000;

/// All tokens of a server.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<Digest, Token>>);

type Digest = [u8; 32];

#[derive(Debug)]
struct Token {
    /// Position of the client that it is for.
    client: usize,
    at: OffsetDateTime,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A request token: somebody is to sign in.
    Requested(Url),
    /// An access token: somebody has.
    Granted(Box<Session>),
    /// Either of them, and it was used.
    Used,
}

/// Why a token is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    /// There is none.
    #[error("Token missing")]
    Missing,
    /// Made up, of another server, or of before a restart.
    #[error("Token not found: it is not of this server, or the agent was restarted meanwhile; start the login again")]
    Unknown,
    /// Too late.
    #[error("Token timed out: it was good for five minutes; start the login again")]
    TimedOut,
    /// The user has logged out since, or was logged out.
    #[error("The session of this token is over; start the login again")]
    SessionOver,
    /// Twice.
    #[error("Token used already: it is good for one use only; if nobody reloaded a page, somebody has a copy of it")]
    Used,
    /// Of another client.
    #[error("Token of another client: only the client that a token was made for may use it")]
    OtherClient,
    /// None can be made.
    #[error("Failed to process the request: try again later")]
    NoRandomness,
}

impl Tokens {
    /// A request token for this client, whose users go there afterwards.
    pub(super) fn request(&self, client: usize, to: Url, now: OffsetDateTime) -> Result<String, TokenError> {
        self.make(Token { client, at: now, state: State::Requested(to) })
    }

    /// Whether a request token is good; from now on it is for another five minutes, in which somebody may log in.
    pub(super) fn refresh(&self, request_token: &str, now: OffsetDateTime) -> Result<(), TokenError> {
        let mut tokens = self.lock();
        let token = live(&mut tokens, request_token, now)?;
        match token.state {
            State::Requested(_) => token.at = now,
            State::Granted(_) => return Err(TokenError::Unknown),
            State::Used => return Err(TokenError::Used),
        }
        Ok(())
    }

    /// Turns a request token into an access token for whoever is signed in: for which client, and where the browser goes.
    pub(super) fn grant(
        &self,
        request_token: &str,
        session: Session,
        now: OffsetDateTime,
    ) -> Result<Granted, TokenError> {
        let (client, redirect_to) = {
            let mut tokens = self.lock();
            let token = live(&mut tokens, request_token, now)?;
            match std::mem::replace(&mut token.state, State::Used) {
                State::Requested(to) => (token.client, to),
                State::Used => return Err(TokenError::Used),
                granted @ State::Granted(_) => {
                    token.state = granted;
                    return Err(TokenError::Unknown);
                }
            }
        };
        let access_token = self.make(Token { client, at: now, state: State::Granted(Box::new(session)) })?;
        Ok(Granted { client, redirect_to, access_token })
    }

    /// Turns an access token into the user.
    pub(super) fn redeem(&self, access_token: &str, client: usize, now: OffsetDateTime) -> Result<Session, TokenError> {
        let mut tokens = self.lock();
        let token = live(&mut tokens, access_token, now)?;
        if token.client != client {
            return Err(TokenError::OtherClient);
        }
        match std::mem::replace(&mut token.state, State::Used) {
            State::Granted(session) => Ok(*session),
            State::Used => Err(TokenError::Used),
            requested @ State::Requested(_) => {
                token.state = requested;
                Err(TokenError::Unknown)
            }
        }
    }

    fn make(&self, token: Token) -> Result<String, TokenError> {
        let text = URL_SAFE_NO_PAD.encode(random::bytes::<32>()?);
        let mut tokens = self.lock();
        let remembered = token.at - REMEMBERED;
        tokens.retain(|_, token| token.at > remembered);
        if tokens.len() >= MOST {
            let oldest = tokens.iter().min_by_key(|(_, token)| token.at).map(|(digest, _)| *digest);
            oldest.and_then(|oldest| tokens.remove(&oldest));
        }
        tokens.insert(digest_of(&text), token);
        Ok(text)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request token became.
#[derive(Debug)]
pub(super) struct Granted {
    /// Position of the client.
    pub(super) client: usize,
    /// Where its user goes.
    pub(super) redirect_to: Url,
    /// With what.
    pub(super) access_token: String,
}

impl From<NoRandomness> for TokenError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

fn live<'a>(
    tokens: &'a mut HashMap<Digest, Token>,
    text: &str,
    now: OffsetDateTime,
) -> Result<&'a mut Token, TokenError> {
    let token = tokens.get_mut(&digest_of(text)).ok_or(TokenError::Unknown)?;
    // Whether it was used says more than that it is old.
    let over = now - token.at >= LIFETIME && !matches!(token.state, State::Used);
    if over { Err(TokenError::TimedOut) } else { Ok(token) }
}

fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    fn alice() -> Session {
        Session::new("s".to_owned(), &json!({"preferred_username": "alice@alpha"}), at(0)).unwrap()
    }

    fn client() -> Url {
        "https://app.example/client/".parse().unwrap()
    }

    #[test]
    fn each_token_is_taken_once_by_its_client() {
        let tokens = Tokens::default();
        let requested = tokens.request(1, client(), at(0)).unwrap();
        let granted = tokens.grant(&requested, alice(), at(1)).unwrap();
        assert_eq!((granted.client, &granted.redirect_to), (1, &client()));
        assert_eq!(tokens.grant(&requested, alice(), at(2)).unwrap_err(), TokenError::Used);
        assert_eq!(tokens.refresh(&requested, at(2)), Err(TokenError::Used));
        assert_eq!(tokens.redeem(&granted.access_token, 0, at(2)).unwrap_err(), TokenError::OtherClient);
        assert_eq!(tokens.redeem(&granted.access_token, 1, at(2)).unwrap().username, "alice@alpha");
        assert_eq!(tokens.redeem(&granted.access_token, 1, at(400)).unwrap_err(), TokenError::Used);
        assert_eq!(tokens.redeem("made-up", 1, at(2)).unwrap_err(), TokenError::Unknown);
    }

    #[test]
    fn one_kind_of_token_is_not_the_other() {
        let tokens = Tokens::default();
        let requested = tokens.request(0, client(), at(0)).unwrap();
        assert_eq!(tokens.redeem(&requested, 0, at(0)).unwrap_err(), TokenError::Unknown);
        let granted = tokens.grant(&requested, alice(), at(0)).unwrap();
        assert_eq!(tokens.grant(&granted.access_token, alice(), at(0)).unwrap_err(), TokenError::Unknown);
        tokens.redeem(&granted.access_token, 0, at(0)).unwrap();
    }

    #[test]
    fn tokens_time_out_and_a_visit_refreshes_them() {
        let tokens = Tokens::default();
        let requested = tokens.request(0, client(), at(0)).unwrap();
        tokens.refresh(&requested, at(299)).unwrap();
        assert_eq!(tokens.refresh(&requested, at(599)), Err(TokenError::TimedOut));
        let requested = tokens.request(0, client(), at(0)).unwrap();
        let granted = tokens.grant(&requested, alice(), at(0)).unwrap();
        assert_eq!(tokens.redeem(&granted.access_token, 0, at(300)).unwrap_err(), TokenError::TimedOut);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let tokens = Tokens::default();
        let first = tokens.request(0, client(), at(0)).unwrap();
        for _ in 0..MOST {
            tokens.request(0, client(), at(1)).unwrap();
        }
        assert_eq!(tokens.refresh(&first, at(1)), Err(TokenError::Unknown));
        assert_eq!(tokens.lock().len(), MOST);
    }
}
