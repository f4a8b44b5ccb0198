//! The members of a client's metadata, each read as what it should be. Those that are unknown are ignored (RFC 7591 2);
//! `null` is as good as absent (RFC 7592 2.2).

use serde_json::{Map, Value};

use crate::keys::SigningAlgorithm;
use crate::oidc::registration::address::{AddressError, AddressRules};
use crate::registry::ClientJwksError;

/// Longest list.
const MAX_ENTRIES: usize = 32;

/// Longest text that is no address, in characters.
const MAX_TEXT: usize = 256;

/// What is wrong with the metadata. The sentences are fixed, so that they can be told to whoever sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum MetadataError {
    #[error("Send the metadata as a JSON object, with Content-Type application/json.")]
    NotAnObject,
    #[error("redirect_uris: each {0}.")]
    RedirectUri(AddressError),
    #[error("redirect_uris is missing: the authorization_code grant needs one to {MAX_ENTRIES}.")]
    RedirectUrisMissing,
    #[error("{0} {1}.")]
    Member(&'static str, Fault),
}

/// What is wrong with one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::oidc) enum Fault {
    #[error("has the wrong type, or is too long")]
    Type,
    #[error("{0}")]
    Address(AddressError),
    #[error("is not supported here, or not with this value: see the discovery document")]
    Unsupported,
    #[error("is not allowed for this client: ask the ops of this broker")]
    NotAllowed,
    #[error("does not go together with the other members")]
    Contradiction,
    #[error("is missing, or does not name all redirect_uris")]
    Sector,
    #[error("cannot be fetched: it must be a public address that answers 200 in a few seconds")]
    NotFetched,
    #[error("is not usable: {0}")]
    Keys(ClientJwksError),
    #[error("must be the one that was issued")]
    Changed,
    #[error("is chosen by the broker: leave it out")]
    NotYours,
    #[error("looks like the name of an application of this federation: choose another one")]
    LookAlike,
}

/// A JSON object that somebody sent.
pub(super) struct Members<'a> {
    object: &'a Map<String, Value>,
    rules: AddressRules,
}

impl<'a> Members<'a> {
    /// These.
    pub(super) fn new(object: &'a Map<String, Value>, rules: AddressRules) -> Self {
        Self { object, rules }
    }

    /// Whatever it is.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, MetadataError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.as_str().filter(|text| !text.is_empty() && text.chars().count() <= MAX_TEXT);
        text.map(Some).ok_or(MetadataError::Member(name, Fault::Type))
    }

    /// A list of texts; nothing if it is absent.
    pub(super) fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, MetadataError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let texts = value.as_array().filter(|entries| entries.len() <= MAX_ENTRIES).and_then(|entries| {
            entries.iter().map(|entry| entry.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
        });
        texts.map(Some).ok_or(MetadataError::Member(name, Fault::Type))
    }

    /// Yes or no; no if it is absent.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, MetadataError> {
        let Some(value) = self.value(name) else { return Ok(false) };
        value.as_bool().ok_or(MetadataError::Member(name, Fault::Type))
    }

    /// A number of seconds.
    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<u64>, MetadataError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or(MetadataError::Member(name, Fault::Type))
    }

    /// An https address without fragment.
    pub(super) fn address(&self, name: &'static str) -> Result<Option<String>, MetadataError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.as_str().ok_or(MetadataError::Member(name, Fault::Type))?;
        self.rules.check_whole(text).map_err(|error| MetadataError::Member(name, Fault::Address(error)))?;
        Ok(Some(text.to_owned()))
    }

    /// An algorithm that we sign by.
    pub(super) fn our_algorithm(&self, name: &'static str) -> Result<Option<SigningAlgorithm>, MetadataError> {
        let named = |text: &str| serde_json::from_value(Value::from(text)).ok();
        self.text(name)?.map(|text| named(text).ok_or(MetadataError::Member(name, Fault::Unsupported))).transpose()
    }

    /// One of these names.
    pub(super) fn one_of(&self, name: &'static str, known: &[&str]) -> Result<Option<String>, MetadataError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if known.contains(&text) {
            Ok(Some(text.to_owned()))
        } else {
            Err(MetadataError::Member(name, Fault::Unsupported))
        }
    }
}
