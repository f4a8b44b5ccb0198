//! The OpenID Provider, fetched as the application does it: through the machine's own name server, over TLS with the CAs
//! that this machine trusts.

use http::{Request, StatusCode};
use serde_json::Value;

use super::configuration::sentence;
use super::finding::Finding;
use crate::config::Config;
use crate::provider::wire::{Wire, WireError};
use crate::recipe::relying_party::IdTokenAlg;

const ABOUT: &str = "issuer";

/// Why a document is of no use.
#[derive(Debug, thiserror::Error)]
enum DocumentError {
    #[error("{0} cannot be fetched: {1}")]
    Wire(String, #[source] WireError),
    #[error("{0} answers {1}")]
    Status(String, StatusCode),
    #[error("{0} is no JSON document")]
    NotJson(String),
}

/// Discovery (OpenID Connect Discovery 1.0, 4) and key set; and the key set, as it is published.
pub(super) async fn check(wire: &Wire, config: &Config, issuer: &str) -> (Vec<Finding>, Option<Value>) {
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let discovered = match fetch(wire, &address).await {
        Ok(discovered) => discovered,
        Err(error) => return (vec![unfetched(&error)], None),
    };
    let named = discovered["issuer"].as_str().unwrap_or_default();
    if named != issuer {
        let sentence = format!("{address} is the configuration of {named:?}, not of {issuer}.");
        let finding = Finding::error(ABOUT, sentence, "ask ops which address the broker has (issuer in broker.toml)");
        return (vec![finding], None);
    }
    let mut findings = vec![Finding::ok(ABOUT, format!("{issuer} answers, and says that it is that."))];
    findings.extend(algorithm(config, &discovered));
    let Some(address) = discovered["jwks_uri"].as_str() else {
        let sentence = format!("{address} names no jwks_uri.");
        findings.push(Finding::error("key set", sentence, "ask ops to look at the broker"));
        return (findings, None);
    };
    let fetched = fetch(wire, address).await;
    findings.push(keys(fetched.as_ref()));
    (findings, fetched.ok())
}

fn keys(fetched: Result<&Value, &DocumentError>) -> Finding {
    const ABOUT: &str = "key set";
    match fetched {
        Err(error) => unfetched(error),
        Ok(document) => match document["keys"].as_array().map_or(0, Vec::len) {
            0 => Finding::error(ABOUT, "The key set has no keys.", "ask ops: homeward-broker keys list"),
            1 => Finding::ok(ABOUT, "1 key can be fetched."),
            count => Finding::ok(ABOUT, format!("{count} keys can be fetched.")),
        },
    }
}

/// Whether tokens can be signed as the application wants them.
fn algorithm(config: &Config, discovered: &Value) -> Option<Finding> {
    config.relying_party.as_ref()?;
    let wanted = named(config.recipe.relying_party.as_ref()?.id_token_alg);
    let offered = discovered["id_token_signing_alg_values_supported"].as_array()?;
    (!offered.iter().any(|alg| alg == wanted)).then(|| {
        let sentence =
            format!("The application wants ID tokens signed with {wanted}, which the broker does not offer.");
        Finding::error("algorithm", sentence, "ask ops which signing keys there are: homeward-broker keys list")
    })
}

/// RFC 7518 3.1.
pub(super) fn named(alg: IdTokenAlg) -> &'static str {
    match alg {
        IdTokenAlg::Rs256 => "RS256",
        IdTokenAlg::Es256 => "ES256",
    }
}

fn unfetched(error: &DocumentError) -> Finding {
    let remedy = match error {
        DocumentError::Wire(..) => {
            "try it with curl on this machine; its name server, its firewall or its CA certificates (ca-certificates) stand in the way, and the application's login would fail likewise"
        }
        DocumentError::Status(..) | DocumentError::NotJson(_) => "ask ops what answers there in the broker's place",
    };
    Finding::error(ABOUT, sentence(&error.to_string()), remedy)
}

async fn fetch(wire: &Wire, address: &str) -> Result<Value, DocumentError> {
    let wrong = |error| DocumentError::Wire(address.to_owned(), error);
    let request = Request::get(address).body(Vec::new()).map_err(|_| wrong(WireError::Address))?;
    let answer = wire.send(request).await.map_err(wrong)?;
    match answer.status() {
        StatusCode::OK => serde_json::from_slice(answer.body()).map_err(|_| DocumentError::NotJson(address.to_owned())),
        status => Err(DocumentError::Status(address.to_owned(), status)),
    }
}
