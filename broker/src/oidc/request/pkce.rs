//! The PKCE challenge of an authorization request (RFC 7636 4.3). What is checked of the verifier is with the code.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::login::{AuthorizationRequest, Reply};
use crate::oidc::request::RequestError;
use crate::secret::SecretHash;

/// How many challenges are remembered.
const MOST_SEEN: usize = 4096;

/// Reads `code_challenge` and `code_challenge_method`. `S256` is the only method: `plain` gives the verifier to
/// everybody who sees the request, and it is the default when no method is sent.
///
/// # Errors
/// When the method is another one, or one parameter makes no sense without the other.
pub(super) fn challenge(challenge: Option<&str>, method: Option<&str>) -> Result<Option<SecretHash>, RequestError> {
    match (challenge, method) {
        (None, None) => Ok(None),
        (Some(challenge), Some("S256")) => challenge.parse().map(Some).map_err(|_| RequestError::CodeChallenge),
        (Some(_), _) => Err(RequestError::CodeChallengeMethod),
        (None, Some(_)) => Err(RequestError::CodeChallenge),
    }
}

/// The challenges of late, each with the request that it came in (RFC 9700 2.1.1): a client that sends one challenge with
/// many requests has a verifier that somebody will find out. It works as long as nobody does, so ops are told and nobody is
/// refused. A reload of the same request is none.
#[derive(Default)]
pub(in crate::oidc) struct SeenChallenges(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    requests: HashMap<SecretHash, SecretHash>,
    order: VecDeque<SecretHash>,
}

impl SeenChallenges {
    /// Notes a request; says whether its challenge has come with another one before.
    pub(in crate::oidc) fn is_reused(&self, request: &AuthorizationRequest) -> bool {
        let Some(challenge) = &request.code_challenge else { return false };
        let state = match &request.reply {
            Reply::Callback { state, .. } => state.as_deref(),
            Reply::Device { .. } => None,
        };
        let name = SecretHash::of(&format!("{} {}", request.client_id, challenge.as_str()));
        let within = SecretHash::of(&format!("{:?} {:?}", state, request.nonce));
        // Nobody panics while holding it.
        let Ok(mut seen) = self.0.lock() else { return false };
        if let Some(before) = seen.requests.get(&name) {
            return *before != within;
        }
        if seen.order.len() == MOST_SEEN
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.requests.remove(&oldest);
        }
        seen.order.push_back(name.clone());
        seen.requests.insert(name, within);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636 appendix B
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_the_rfc_fits() {
        let hash = challenge(Some(CHALLENGE), Some("S256")).unwrap().unwrap();
        assert!(hash.matches("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!hash.matches("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl"));
    }

    // P2
    #[test]
    fn everything_but_s256_is_refused() {
        let refused = |text, method| challenge(text, method).err();
        for method in [None, Some("plain"), Some("s256"), Some("S512"), Some("S256 ")] {
            assert_eq!(refused(Some(CHALLENGE), method), Some(RequestError::CodeChallengeMethod), "{method:?}");
        }
        for text in [None, Some("short"), Some(&CHALLENGE[..42]), Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM")] {
            assert_eq!(refused(text, Some("S256")), Some(RequestError::CodeChallenge), "{text:?}");
        }
        assert!(challenge(None, None).unwrap().is_none());
    }

    // P5
    #[test]
    fn one_challenge_in_two_requests_is_noticed() {
        let seen = SeenChallenges::default();
        let request = |client: &str, state: &str, challenge: Option<&str>| AuthorizationRequest {
            code_challenge: challenge.map(|text| text.parse().unwrap()),
            ..AuthorizationRequest::for_test(client, state)
        };
        assert!(!seen.is_reused(&request("beta", "1", Some(CHALLENGE))));
        assert!(!seen.is_reused(&request("beta", "1", Some(CHALLENGE))), "a reload");
        assert!(seen.is_reused(&request("beta", "2", Some(CHALLENGE))));
        assert!(!seen.is_reused(&request("delta", "2", Some(CHALLENGE))), "another client");
        assert!(!seen.is_reused(&request("beta", "3", None)) && !seen.is_reused(&request("beta", "4", None)));
        // Others come and go: what is remembered is bounded.
        for index in 0..MOST_SEEN {
            let other = SecretHash::of(&index.to_string());
            assert!(!seen.is_reused(&request("beta", "1", Some(other.as_str()))));
        }
        assert!(!seen.is_reused(&request("beta", "5", Some(CHALLENGE))));
        assert_eq!(seen.0.lock().unwrap().requests.len(), MOST_SEEN);
    }
}
