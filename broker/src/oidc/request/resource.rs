//! The `resource` parameter (RFC 8707): whose API the access token is to be for, beside this broker.

use url::Url;

use crate::oidc::request::RequestError;
use crate::registry::{Client, Snapshot};

/// Most resources of one request.
const MOST: usize = 8;

/// Longest resource, in bytes.
const MAX_LENGTH: usize = 512;

/// Reads the resources of a request: addresses at instances whose API this client may call.
///
/// # Errors
/// When one is not an address, or at nobody whom the client may call. Which of the two is not told: a client learns
/// nothing of instances that it has no edge to.
pub(super) fn resources(values: &[&str], client: Client<'_>, snapshot: &Snapshot) -> Result<Vec<String>, RequestError> {
    if values.len() > MOST {
        return Err(RequestError::Target);
    }
    let mut resources = Vec::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        if !is_callable(value, client, snapshot) {
            return Err(RequestError::Target);
        }
        if !resources.iter().any(|known| known == value) {
            resources.push((*value).to_owned());
        }
    }
    Ok(resources)
}

/// Whether this is the address of an API that the client may call: the same rule as at the token endpoint.
fn is_callable(resource: &str, client: Client<'_>, snapshot: &Snapshot) -> bool {
    let Some(url) = Url::parse(resource).ok().filter(|_| resource.len() <= MAX_LENGTH) else { return false };
    // RFC 8707 2: absolute, and without a fragment. What identifies a user or hides a host is no resource either.
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    snapshot.resource_server(resource).is_some_and(|server| snapshot.may_call_itself(client.name, server.name))
}
