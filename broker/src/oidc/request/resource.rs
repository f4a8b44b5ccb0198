//! The `resource` parameter (RFC 8707): whose API the access token is to be for, beside this broker.

use url::Url;

use crate::oidc::request::RequestError;
use crate::registry::{Client, Instance, Snapshot};

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
        callable(value, client, snapshot).ok_or(RequestError::Target)?;
        if !resources.iter().any(|known| known == value) {
            resources.push((*value).to_owned());
        }
    }
    Ok(resources)
}

/// The instance at this address, if the client may call its API in the name of users.
fn callable<'a>(resource: &str, client: Client<'_>, snapshot: &'a Snapshot) -> Option<&'a Instance> {
    let url = Url::parse(resource).ok().filter(|_| resource.len() <= MAX_LENGTH)?;
    // RFC 8707 2: absolute, and without a fragment. What identifies a user or hides a host is no resource either.
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let homes = snapshot.homes_for(client.name).into_iter().map(|home| &**home);
    let mut callable = homes.filter(|home| snapshot.edge(client.name, &home.name).is_some_and(|edge| edge.api_access));
    // Its scheme is that of the instance, which is https except on the loopback of a demonstration.
    callable.find(|home| Url::parse(&home.public_url).is_ok_and(|own| own.origin() == url.origin()))
}
