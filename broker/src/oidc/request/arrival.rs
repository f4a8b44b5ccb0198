//! How a request arrives: its parameters in the open, in a request object (RFC 9101), or behind an address of one.

use crate::clock::Timestamp;
use crate::login::AuthorizationRequest;
use crate::oidc::Provider;
use crate::oidc::parameters::Parameters;
use crate::oidc::request::object::{RequestObject, RequestObjectError, UnverifiedObject};
use crate::oidc::request::{self, Callback, Refused, RequestError};
use crate::registry::{Client, Snapshot};

/// Who brings a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oidc) enum Channel {
    /// The user's browser.
    Browser,
    /// The client itself, authenticated (RFC 9126).
    Pushed,
}

impl Provider {
    /// Reads a request, wherever its parameters stand.
    ///
    /// # Errors
    /// The first thing that is wrong, and where that is to be said.
    pub(in crate::oidc) async fn read_request<'a>(
        &self,
        outer: &Parameters,
        client: Client<'a>,
        channel: Channel,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<AuthorizationRequest, Refused<'a>> {
        let policy = &client.relying_party.policy;
        let outside = |cause| Refused { callback: Callback::of(outer, client).ok(), cause };
        if channel == Channel::Browser && (policy.require_par || policy.is_fapi2()) {
            return Err(outside(RequestError::NotPushed));
        }
        let inner = self.request_object(outer, client, channel, now).await.map_err(outside)?;
        let inner = inner.map(|object| object.parameters(outer)).transpose().map_err(|cause| outside(cause.into()))?;
        let parameters = inner.as_ref().unwrap_or(outer);
        let nowhere = |cause: request::CallbackError| Refused { callback: None, cause: cause.into() };
        let callback = Callback::of(parameters, client).map_err(nowhere)?;
        request::parse(parameters, &callback, snapshot, &self.hints, now)
            .map_err(|cause| Refused { callback: Some(callback), cause })
    }

    /// The request object of a request, verified, if it has one.
    async fn request_object(
        &self,
        outer: &Parameters,
        client: Client<'_>,
        channel: Channel,
        now: Timestamp,
    ) -> Result<Option<RequestObject>, RequestError> {
        let fetched;
        let text = match (outer.get("request")?, outer.get("request_uri")?, channel) {
            (None, None, _) if client.relying_party.policy.require_signed_request => {
                return Err(RequestObjectError::Missing.into());
            }
            (None, None, _) => return Ok(None),
            // RFC 9126 2.1.
            (_, Some(_), Channel::Pushed) => return Err(RequestError::RequestUriPushed),
            (Some(_), Some(_), Channel::Browser) => return Err(RequestObjectError::Two.into()),
            (Some(text), None, _) => text,
            (None, Some(address), Channel::Browser) => {
                fetched = self.fetch_request_object(address, client).await?;
                &fetched
            }
        };
        let object = UnverifiedObject::read(text)?;
        let keys = match object.signed_by() {
            Some((kid, algorithm)) => self.client_keys.verifying_keys(client.relying_party, kid, algorithm, now).await,
            None => Vec::new(),
        };
        Ok(Some(object.verify(client.relying_party, &keys, &self.issuer, now)?))
    }
}
