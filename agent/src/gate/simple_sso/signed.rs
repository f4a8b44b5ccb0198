//! The envelope of django-simple-sso: what itsdangerous 0.24 calls a timed signature. A payload, the time, and HMAC-SHA1 of
//! both, with dots between them. SHA-1 is theirs, not ours; as HMAC it is not broken, and the keys are long and random.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use time::OffsetDateTime;

/// Their time begins with 2011.
const EPOCH: i64 = 1_293_840_000;
/// How far the two clocks may be apart, in seconds: what the server of django-simple-sso allows.
const WINDOW: i64 = 5;

/// The key that a client shares with its server.
pub(crate) struct SigningKey(hmac::Key);

/// Why an envelope is not opened. The sentences are for whoever runs the client.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SignatureRefused {
    /// Not payload, time and signature.
    #[error("this is not signed at all: django-simple-sso signs what it sends")]
    Unsigned,
    /// Another key.
    #[error("Bad Signature: this client's private key is not the one that belongs to its public key here")]
    Bad,
    /// The client's clock is behind, or the request was on its way for long.
    #[error("Signature expired: it is {0} seconds old, and 5 are allowed; set the clocks of both machines")]
    Expired(i64),
    /// The client's clock is ahead.
    #[error("Signature from the future: it is {0} seconds ahead, and 5 are allowed; set the clocks of both machines")]
    Ahead(i64),
    /// The time since 1970, not 2011.
    #[error("Signature of another itsdangerous: django-simple-sso needs version 0.24 of it")]
    OtherEpoch,
}

impl SigningKey {
    /// From a client's private key.
    pub(crate) fn new(private_key: &str) -> Self {
        let mut derived = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        for part in ["itsdangerous", "signer", private_key] {
            derived.update(part.as_bytes());
        }
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, derived.finish().as_ref()))
    }

    /// Signs a payload.
    pub(crate) fn sign(&self, payload: &str, now: OffsetDateTime) -> String {
        let seconds = now.unix_timestamp().saturating_sub(EPOCH).max(0).to_be_bytes();
        let significant = seconds.iter().position(|byte| *byte != 0).unwrap_or(seconds.len());
        let time = URL_SAFE_NO_PAD.encode(seconds.get(significant..).unwrap_or_default());
        let value = format!("{payload}.{time}");
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, value.as_bytes()));
        format!("{value}.{signature}")
    }

    /// The payload of what was signed with this key within the last seconds.
    pub(crate) fn open<'a>(&self, signed: &'a str, now: OffsetDateTime) -> Result<&'a str, SignatureRefused> {
        self.open_within(signed, now, WINDOW)
    }

    /// And of what may be older.
    pub(crate) fn open_within<'a>(
        &self,
        signed: &'a str,
        now: OffsetDateTime,
        oldest: i64,
    ) -> Result<&'a str, SignatureRefused> {
        let (payload, signed_at) = self.open_of_any_age(signed)?;
        let now = now.unix_timestamp();
        match now.saturating_sub(signed_at.saturating_add(EPOCH)) {
            age if age > oldest => Err(SignatureRefused::Expired(age)),
            age if age < -WINDOW && (now - signed_at).abs() <= WINDOW => Err(SignatureRefused::OtherEpoch),
            age if age < -WINDOW => Err(SignatureRefused::Ahead(age.saturating_neg())),
            _ => Ok(payload),
        }
    }

    /// The payload, and when it was signed: in seconds since their epoch.
    fn open_of_any_age<'a>(&self, signed: &'a str) -> Result<(&'a str, i64), SignatureRefused> {
        let (value, signature) = signed.rsplit_once('.').ok_or(SignatureRefused::Unsigned)?;
        let (payload, time) = value.rsplit_once('.').ok_or(SignatureRefused::Unsigned)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureRefused::Bad)?;
        hmac::verify(&self.0, value.as_bytes(), &signature).map_err(|_| SignatureRefused::Bad)?;
        let time = URL_SAFE_NO_PAD.decode(time).map_err(|_| SignatureRefused::Unsigned)?;
        let fits = time.len() <= 7;
        let seconds = time.iter().fold(0_i64, |seconds, byte| (seconds << 8) | i64::from(*byte));
        if fits { Ok((payload, seconds)) } else { Err(SignatureRefused::Unsigned) }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the vectors were made, by itsdangerous 0.24.
    const THEN: i64 = EPOCH + 0x1de2_93ae;
    const BODY: &str = r#"{"redirect_to": "http://x/"}.HeKTrg.BUmZ37HBYQOZjYlLb-Pp6lA-la0"#;
    const TOKEN: &str = "InRvayI.HeKTrg.x8G61zsVEhrN8BeQQWmdhWjNNFE";

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn it_is_what_itsdangerous_does() {
        let key = SigningKey::new("priv-1");
        assert_eq!(key.sign(r#"{"redirect_to": "http://x/"}"#, at(THEN)), BODY);
        assert_eq!(key.sign(&URL_SAFE_NO_PAD.encode("\"tok\""), at(THEN)), TOKEN);
        assert_eq!(key.open(BODY, at(THEN)), Ok(r#"{"redirect_to": "http://x/"}"#));
        assert_eq!(key.open(TOKEN, at(THEN)), Ok("InRvayI"));
    }

    #[test]
    fn each_refusal_has_its_name() {
        let key = SigningKey::new("priv-1");
        assert_eq!(key.open(BODY, at(THEN + 5)).ok(), key.open(BODY, at(THEN - 5)).ok());
        assert_eq!(key.open(BODY, at(THEN + 6)), Err(SignatureRefused::Expired(6)));
        assert_eq!(key.open(BODY, at(THEN - 6)), Err(SignatureRefused::Ahead(6)));
        assert_eq!(SigningKey::new("priv-2").open(BODY, at(THEN)), Err(SignatureRefused::Bad));
        assert_eq!(key.open(&BODY.replace("http://x/", "http://y/"), at(THEN)), Err(SignatureRefused::Bad));
        assert_eq!(key.open(&BODY.replace("la0", "la1"), at(THEN)), Err(SignatureRefused::Bad));
        assert_eq!(key.open(&BODY.replace("HeKTrg", "HeKTrh"), at(THEN)), Err(SignatureRefused::Bad));
        for unsigned in ["", "{}", "a.b"] {
            assert_eq!(key.open(unsigned, at(THEN)), Err(SignatureRefused::Unsigned), "{unsigned}");
        }
        let newer = key.sign("{}", at(THEN + EPOCH));
        assert_eq!(key.open(&newer, at(THEN)), Err(SignatureRefused::OtherEpoch));
    }
}
