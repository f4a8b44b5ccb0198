//! Client metadata (RFC 7591 2, OpenID Connect Dynamic Client Registration 1.0 2): what a client says of itself, read
//! into types, with the defaults of the specifications. Pure: what must be fetched to judge it is fetched elsewhere.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use url::Url;

use crate::keys::SigningAlgorithm;
use crate::oidc::registration::address::{AddressRules, ApplicationType};
use crate::oidc::registration::members::{Fault, Members, MetadataError};
use crate::registry::{
    CLIENT_SIGNING_ALGS, ClientAuthMethod, ClientJwks, ClientKeys, ClientPages, ClientPolicy, GrantType,
    LogoutAddresses, SubjectType, alg_name, is_readable, sector,
};

/// What clients may register for themselves. Calling an API in the name of a user needs the word of ops.
const GRANT_TYPES: [GrantType; 4] =
    [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::DeviceCode, GrantType::ClientCredentials];

/// How they may authenticate. `tls_client_auth` is for instances, whose certificates are ours.
const AUTH_METHODS: [ClientAuthMethod; 5] = [
    ClientAuthMethod::ClientSecretBasic,
    ClientAuthMethod::ClientSecretPost,
    ClientAuthMethod::ClientSecretJwt,
    ClientAuthMethod::PrivateKeyJwt,
    ClientAuthMethod::None,
];

/// How assertions under a secret are signed: longer hashes would need longer secrets (RFC 7518 3.2).
const SECRET_ALG: &str = "HS256";

/// Every member that is understood: they are kept and said back, all others are not.
pub(super) const KNOWN: [&str; 36] = [
    "application_type",
    "redirect_uris",
    "response_types",
    "grant_types",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "client_name",
    "client_uri",
    "logo_uri",
    "policy_uri",
    "tos_uri",
    "contacts",
    "software_id",
    "software_version",
    "jwks",
    "jwks_uri",
    "subject_type",
    "sector_identifier_uri",
    "id_token_signed_response_alg",
    "userinfo_signed_response_alg",
    "introspection_signed_response_alg",
    "request_object_signing_alg",
    "request_uris",
    "initiate_login_uri",
    "default_max_age",
    "require_auth_time",
    "default_acr_values",
    "post_logout_redirect_uris",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
    "frontchannel_logout_uri",
    "frontchannel_logout_session_required",
    "require_pushed_authorization_requests",
    "require_signed_request_object",
    "dpop_bound_access_tokens",
    "tls_client_certificate_bound_access_tokens",
];

/// What a client says of itself.
#[derive(Clone, Debug)]
pub(super) struct ClientMetadata {
    pub(super) name: Option<String>,
    pub(super) redirect_uris: Vec<String>,
    pub(super) auth_method: ClientAuthMethod,
    pub(super) id_token_alg: SigningAlgorithm,
    pub(super) policy: ClientPolicy,
    pub(super) logout: LogoutAddresses,
    pub(super) keys: Option<ClientKeys>,
    pub(super) request_uris: Vec<String>,
    pub(super) pages: ClientPages,
    /// Has yet to be fetched: it must list all redirect URIs.
    pub(super) sector_identifier_uri: Option<String>,
    /// The members as they were accepted, with defaults.
    pub(super) accepted: Map<String, Value>,
}

impl ClientMetadata {
    /// Reads it.
    ///
    /// # Errors
    /// The first member that cannot be accepted.
    pub(super) fn read(object: &Map<String, Value>, rules: AddressRules) -> Result<Self, MetadataError> {
        refuse_unknown_algorithms(object)?;
        let members = Members::new(object, rules);
        let native = members.one_of("application_type", &["web", "native"])?.as_deref() == Some("native");
        let application = if native { ApplicationType::Native } else { ApplicationType::Web };
        let grant_types = grant_types(&members)?;
        let redirect_uris = redirect_uris(&members, rules, application, &grant_types)?;
        let auth_method = auth_method(&members)?;
        let keys = keys(&members, auth_method)?;
        if auth_method == ClientAuthMethod::None && grant_types.iter().any(|kind| kind.is_for_confidential_clients()) {
            return Err(MetadataError::Member("grant_types", Fault::Contradiction));
        }
        let mut metadata = Self {
            name: client_name(&members)?,
            auth_method,
            id_token_alg: members.our_algorithm("id_token_signed_response_alg")?.unwrap_or(SigningAlgorithm::Rs256),
            logout: logout(&members, rules, application, &redirect_uris)?,
            request_uris: request_uris(&members, rules)?,
            pages: pages(&members)?,
            sector_identifier_uri: members.address("sector_identifier_uri")?,
            policy: policy(&members, grant_types)?,
            accepted: accepted(object),
            redirect_uris,
            keys,
        };
        metadata.policy.subject_type = metadata.subject_type(&members)?;
        metadata.check_assertions()?;
        metadata.check_unused(&members)?;
        metadata.say_defaults(application);
        Ok(metadata)
    }

    /// OpenID Connect Core 8.1: callbacks on several hosts say by a document that they belong together.
    fn subject_type(&self, members: &Members<'_>) -> Result<SubjectType, MetadataError> {
        if members.one_of("subject_type", &["public", "pairwise"])?.as_deref() != Some("pairwise") {
            return Ok(SubjectType::Public);
        }
        let own = self.sector_identifier_uri.as_ref().map(std::slice::from_ref).unwrap_or(&self.redirect_uris);
        let sector = sector(own).ok_or(MetadataError::Member("sector_identifier_uri", Fault::Sector))?;
        Ok(SubjectType::Pairwise { sector })
    }

    /// A secret signs by one algorithm, and a key by others.
    fn check_assertions(&self) -> Result<(), MetadataError> {
        let fits = match (self.auth_method, self.policy.assertion_alg.as_deref()) {
            (ClientAuthMethod::PrivateKeyJwt, Some(alg)) => alg != SECRET_ALG,
            (ClientAuthMethod::ClientSecretJwt, Some(alg)) => alg == SECRET_ALG,
            _ => true,
        };
        let refused = MetadataError::Member("token_endpoint_auth_signing_alg", Fault::Contradiction);
        if fits { Ok(()) } else { Err(refused) }
    }

    /// Members that change nothing here, because it is so anyway or is only for people; they are to be what they should.
    fn check_unused(&self, members: &Members<'_>) -> Result<(), MetadataError> {
        members.texts("contacts")?;
        for name in ["software_id", "software_version"] {
            members.text(name)?;
        }
        // Every ID token has auth_time if the home knows it, and every logout token a sid.
        for name in ["require_auth_time", "backchannel_logout_session_required"] {
            members.flag(name)?;
        }
        Ok(())
    }

    fn say_defaults(&mut self, application: ApplicationType) {
        let code = self.policy.grant_types.contains(&GrantType::AuthorizationCode);
        let web = if application == ApplicationType::Native { "native" } else { "web" };
        let subject_type = if self.policy.subject_type == SubjectType::Public { "public" } else { "pairwise" };
        let defaults = [
            ("application_type", json!(web)),
            ("grant_types", json!(self.policy.grant_types)),
            ("response_types", if code { json!(["code"]) } else { json!([]) }),
            ("token_endpoint_auth_method", json!(self.auth_method)),
            ("id_token_signed_response_alg", json!(self.id_token_alg)),
            ("subject_type", json!(subject_type)),
        ];
        self.accepted.extend(defaults.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// An algorithm that is passed over would be a promise that is not kept: what was to be encrypted would be sent in clear.
fn refuse_unknown_algorithms(object: &Map<String, Value>) -> Result<(), MetadataError> {
    let unknown = |(name, value): &(&String, &Value)| {
        (name.ends_with("_alg") || name.ends_with("_enc")) && !value.is_null() && !KNOWN.contains(&name.as_str())
    };
    match object.iter().find(unknown) {
        Some((name, _)) => Err(MetadataError::Member(unsupported_algorithm(name), Fault::Unsupported)),
        None => Ok(()),
    }
}

/// The name of an algorithm member as a fixed text: nothing that a stranger sent is said back.
fn unsupported_algorithm(name: &str) -> &'static str {
    const NAMES: [&str; 9] = [
        "id_token_encrypted_response_alg",
        "id_token_encrypted_response_enc",
        "userinfo_encrypted_response_alg",
        "userinfo_encrypted_response_enc",
        "request_object_encryption_alg",
        "request_object_encryption_enc",
        "introspection_encrypted_response_alg",
        "introspection_encrypted_response_enc",
        "authorization_signed_response_alg",
    ];
    NAMES.into_iter().find(|known| *known == name).unwrap_or("An algorithm")
}

fn accepted(object: &Map<String, Value>) -> Map<String, Value> {
    let known = object.iter().filter(|(name, value)| KNOWN.contains(&name.as_str()) && !value.is_null());
    known.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// RFC 7591 2: the authorization code grant, unless it says otherwise; `response_types` must say the same.
fn grant_types(members: &Members<'_>) -> Result<BTreeSet<GrantType>, MetadataError> {
    let refused = |fault| MetadataError::Member("grant_types", fault);
    let named = members.texts("grant_types")?.unwrap_or_else(|| vec!["authorization_code".to_owned()]);
    let mut grant_types = BTreeSet::new();
    for name in named {
        let kind = GrantType::named(&name).ok_or_else(|| refused(Fault::Unsupported))?;
        grant_types.insert(kind);
    }
    let code = grant_types.contains(&GrantType::AuthorizationCode);
    let response_types = members.texts("response_types")?;
    if response_types.iter().flatten().any(|kind| kind != "code") {
        return Err(MetadataError::Member("response_types", Fault::Unsupported));
    }
    match response_types {
        Some(response_types) if response_types.is_empty() == code => {
            Err(MetadataError::Member("response_types", Fault::Contradiction))
        }
        _ if grant_types.is_empty() => Err(refused(Fault::Contradiction)),
        _ => Ok(grant_types),
    }
}

/// The grant types that a client may register without the word of ops.
pub(super) fn registrable() -> BTreeSet<GrantType> {
    GRANT_TYPES.into()
}

fn redirect_uris(
    members: &Members<'_>,
    rules: AddressRules,
    application: ApplicationType,
    grant_types: &BTreeSet<GrantType>,
) -> Result<Vec<String>, MetadataError> {
    let redirect_uris = members.texts("redirect_uris")?.unwrap_or_default();
    for uri in &redirect_uris {
        rules.check_redirect(uri, application).map_err(MetadataError::RedirectUri)?;
    }
    if redirect_uris.is_empty() && grant_types.contains(&GrantType::AuthorizationCode) {
        return Err(MetadataError::RedirectUrisMissing);
    }
    Ok(redirect_uris)
}

fn auth_method(members: &Members<'_>) -> Result<ClientAuthMethod, MetadataError> {
    let named = members.text("token_endpoint_auth_method")?.unwrap_or("client_secret_basic");
    let method = AUTH_METHODS.into_iter().find(|method| method.as_str() == named);
    method.ok_or(MetadataError::Member("token_endpoint_auth_method", Fault::Unsupported))
}

fn keys(members: &Members<'_>, auth_method: ClientAuthMethod) -> Result<Option<ClientKeys>, MetadataError> {
    let keys = match (members.value("jwks"), members.address("jwks_uri")?) {
        (Some(_), Some(_)) => return Err(MetadataError::Member("jwks", Fault::Contradiction)),
        (Some(jwks), None) => {
            ClientJwks::read(jwks).map_err(|error| MetadataError::Member("jwks", Fault::Keys(error)))?;
            Some(ClientKeys::Inline(jwks.clone()))
        }
        (None, address) => address.map(ClientKeys::Address),
    };
    if keys.is_none() && auth_method == ClientAuthMethod::PrivateKeyJwt {
        return Err(MetadataError::Member("jwks", Fault::Contradiction));
    }
    Ok(keys)
}

fn client_name(members: &Members<'_>) -> Result<Option<String>, MetadataError> {
    let name = members.text("client_name")?;
    if name.is_none_or(is_readable) {
        Ok(name.map(str::to_owned))
    } else {
        Err(MetadataError::Member("client_name", Fault::Type))
    }
}

fn pages(members: &Members<'_>) -> Result<ClientPages, MetadataError> {
    Ok(ClientPages {
        logo: members.address("logo_uri")?,
        home: members.address("client_uri")?,
        policy: members.address("policy_uri")?,
        terms: members.address("tos_uri")?,
        initiate_login: members.address("initiate_login_uri")?,
    })
}

/// A fragment may be the hash of what is there (OpenID Connect Core 6.2).
fn request_uris(members: &Members<'_>, rules: AddressRules) -> Result<Vec<String>, MetadataError> {
    let request_uris = members.texts("request_uris")?.unwrap_or_default();
    for uri in &request_uris {
        rules.check(uri).map_err(|error| MetadataError::Member("request_uris", Fault::Address(error)))?;
    }
    Ok(request_uris)
}

fn logout(
    members: &Members<'_>,
    rules: AddressRules,
    application: ApplicationType,
    redirect_uris: &[String],
) -> Result<LogoutAddresses, MetadataError> {
    let post_logout = members.texts("post_logout_redirect_uris")?.unwrap_or_default();
    for uri in &post_logout {
        let refused = |error| MetadataError::Member("post_logout_redirect_uris", Fault::Address(error));
        rules.check_redirect(uri, application).map_err(refused)?;
    }
    let frontchannel = members.address("frontchannel_logout_uri")?;
    // OpenID Connect Front-Channel Logout 1.0 2: on the origin of a callback.
    let origin = |uri: &String| Url::parse(uri).ok().map(|url| url.origin());
    let own = |uri: &String| redirect_uris.iter().any(|redirect_uri| origin(redirect_uri) == origin(uri));
    if frontchannel.as_ref().is_some_and(|uri| !own(uri)) {
        return Err(MetadataError::Member("frontchannel_logout_uri", Fault::Contradiction));
    }
    Ok(LogoutAddresses {
        backchannel: members.address("backchannel_logout_uri")?,
        frontchannel,
        frontchannel_session: members.flag("frontchannel_logout_session_required")?,
        post_logout,
    })
}

fn policy(members: &Members<'_>, grant_types: BTreeSet<GrantType>) -> Result<ClientPolicy, MetadataError> {
    let with = |more| [CLIENT_SIGNING_ALGS.map(alg_name).as_slice(), &[more]].concat();
    Ok(ClientPolicy {
        require_par: members.flag("require_pushed_authorization_requests")?,
        require_dpop: members.flag("dpop_bound_access_tokens")?,
        require_certificate_binding: members.flag("tls_client_certificate_bound_access_tokens")?,
        require_signed_request: members.flag("require_signed_request_object")?,
        grant_types,
        // OpenID Connect Core 5.4: claims are at userinfo.
        claims_in_id_token: false,
        userinfo_signing_alg: members.our_algorithm("userinfo_signed_response_alg")?,
        introspection_signing_alg: members.our_algorithm("introspection_signed_response_alg")?,
        request_object_alg: members.one_of("request_object_signing_alg", &with("none"))?,
        assertion_alg: members.one_of("token_endpoint_auth_signing_alg", &with(SECRET_ALG))?,
        default_max_age: members.seconds("default_max_age")?,
        default_acr_values: members.texts("default_acr_values")?.unwrap_or_default(),
        ..ClientPolicy::default()
    })
}
