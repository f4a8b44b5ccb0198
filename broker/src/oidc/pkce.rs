//! The PKCE challenge of an authorization request (RFC 7636 4.3). What is checked of the verifier is with the code.

use crate::oidc::request::RequestError;
use crate::secret::SecretHash;

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
}
