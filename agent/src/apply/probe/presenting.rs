//! Bringing a probe code to the token endpoint: through the application's own login, or in its stead.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use thiserror::Error;
use url::Url;

use crate::application::{Application, ApplicationError};
use crate::apply::render::{Credential, Credentials};
use crate::config::PublicUrl;
use crate::conversation::Conversation;
use crate::provider::Provider;
use crate::recipe::path::{CallbackPath, PathTemplate};
use crate::recipe::probe::Probe;
use crate::recipe::relying_party::{ClientAuthMethod, RelyingParty};

/// For the token endpoint.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who presents the code.
#[derive(Debug)]
pub(super) enum Presenter<'a> {
    /// The application, in a login.
    Application {
        /// Which.
        application: &'a Application,
        /// How its logins begin.
        steps: &'a Probe,
        /// Where they come back to.
        callback: &'a CallbackPath,
        /// Where they go.
        issuer: &'a str,
    },
    /// The agent, with the credentials that it wrote.
    Agent {
        /// Which.
        credentials: &'a Credentials,
        /// How.
        method: ClientAuthMethod,
        /// Where a login would come back to.
        redirect_uri: String,
    },
    /// The agent, as the relying party that it is itself.
    Gate(&'a Provider),
}

/// Why the broker has not seen the code.
#[derive(Debug, Error)]
pub(crate) enum NotPresented {
    /// No login began.
    #[error("the application does not answer {path} ({source}), where a login begins; start it")]
    NoAnswer {
        /// Where it was asked.
        path: PathTemplate,
        /// What happened.
        #[source]
        source: ApplicationError,
    },
    /// A login began otherwise than the recipe says.
    #[error(
        "the application answers {path} with status {status} and no redirect to {issuer}/authorize, so no login begins; check that it can reach the broker, and that it reads the agent's files"
    )]
    NoRedirect {
        /// Where it was asked.
        path: PathTemplate,
        /// What it answered.
        status: u16,
        /// Where it should lead.
        issuer: String,
    },
    /// The application did nothing with the code.
    #[error(
        "the application took the answer to a login at {path} and did not call the broker; check that it can reach {issuer}/token, and its log"
    )]
    NoCall {
        /// Where it was answered.
        path: CallbackPath,
        /// Whom it should have called.
        issuer: String,
    },
    /// The agent itself could not.
    #[error("the token endpoint of {issuer} cannot be reached from here; check the broker's public address")]
    NoTokenEndpoint {
        /// Whose.
        issuer: String,
    },
    /// It took too long.
    #[error("the application takes too long to log anybody in; check its log")]
    Late,
}

impl<'a> Presenter<'a> {
    /// Whoever can; `None` if nobody can. The agent itself speaks no TLS to the outside but to the broker's other listener:
    /// it goes to a token endpoint only on this machine.
    pub(super) fn of(
        recipe: &'a RelyingParty,
        application: &'a Application,
        credentials: &'a Credentials,
        public_url: &PublicUrl,
    ) -> Option<Self> {
        let first = recipe.callback_paths.first()?;
        if let Some(steps) = &recipe.probe {
            let callback = steps.callback.as_ref().unwrap_or(first);
            return Some(Self::Application { application, steps, callback, issuer: &credentials.issuer });
        }
        let issuer = Url::parse(&credentials.issuer).ok().and_then(|url| PublicUrl::try_from(url).ok())?;
        // It makes no assertions in the application's name: whether those are right, only the application can show.
        let method = recipe.client_auth_method;
        let by_secret = matches!(method, ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost);
        let redirect_uri = format!("{}{first}", public_url.origin());
        let reachable = !issuer.is_https() && by_secret;
        reachable.then_some(Self::Agent { credentials, method, redirect_uri })
    }

    /// Brings the code to the broker, as far as can be told from here.
    pub(super) async fn present(&self, code: &str) -> Result<(), NotPresented> {
        match self {
            Self::Application { application, steps, callback, issuer } => {
                log_in(application, steps, (callback, issuer), code).await
            }
            Self::Agent { credentials, method, redirect_uri } => {
                redeem(credentials, *method, redirect_uri, code).await.map_err(|error| {
                    tracing::warn!(%error, "the token endpoint does not answer");
                    NotPresented::NoTokenEndpoint { issuer: credentials.issuer.clone() }
                })
            }
            Self::Gate(provider) => provider.present(code).await.map_err(|error| {
                tracing::warn!(%error, "the gate cannot reach the broker's public address");
                NotPresented::NoTokenEndpoint { issuer: provider.registration().issuer.clone() }
            }),
        }
    }

    /// What it means that the broker heard nothing.
    pub(super) fn silence(&self) -> NotPresented {
        match self {
            Self::Application { callback, issuer, .. } => {
                NotPresented::NoCall { path: (*callback).clone(), issuer: (*issuer).to_owned() }
            }
            Self::Agent { credentials, .. } => NotPresented::NoTokenEndpoint { issuer: credentials.issuer.clone() },
            Self::Gate(provider) => NotPresented::NoTokenEndpoint { issuer: provider.registration().issuer.clone() },
        }
    }
}

async fn log_in(
    application: &Application,
    probe: &Probe,
    (callback, issuer): (&CallbackPath, &str),
    code: &str,
) -> Result<(), NotPresented> {
    let mut conversation = Conversation::begin(application, None);
    let mut begun = None;
    for step in &probe.steps {
        let answer = conversation.take(step, &[]).await;
        let answer = answer.map_err(|source| NotPresented::NoAnswer { path: step.path.clone(), source })?;
        begun = Some((&step.path, answer));
    }
    let Some((path, answer)) = begun else { return Err(NotPresented::Late) };
    let Some(state) = answer.location.as_deref().and_then(|location| state_of(location, issuer)) else {
        return Err(NotPresented::NoRedirect { path: path.clone(), status: answer.status, issuer: issuer.to_owned() });
    };
    // RFC 9207 2: an answer says whose it is.
    let own = callback.query();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query: Vec<(&str, &str)> = own.chain([("code", code), ("state", state.as_str()), ("iss", issuer)]).collect();
    // The code is refused, so the application shows some error: which, is its own affair.
    if let Err(error) = conversation.arrive(&callback.path, &query).await {
        tracing::debug!(%error, path = %callback, "the application's answer to a probe");
    }
    Ok(())
}

/// The `state` of a redirect to this issuer's authorization endpoint; `None` if it leads anywhere else: a probe code is
/// for nobody else's login.
fn state_of(location: &str, issuer: &str) -> Option<String> {
    let location = Url::parse(location).ok()?;
    let mut address = location.clone();
    address.set_query(None);
    address.set_fragment(None);
    let authorize = Url::parse(&format!("{issuer}/authorize")).ok()?;
    let state = location.query_pairs().find(|(name, _)| name == "state")?.1.into_owned();
    (address == authorize).then_some(state)
}

/// RFC 6749 4.1.3, with the credentials as 2.3.1 says.
async fn redeem(
    credentials: &Credentials,
    method: ClientAuthMethod,
    redirect_uri: &str,
    code: &str,
) -> Result<(), reqwest::Error> {
    let Credential::Secret(secret) = &credentials.credential else { return Ok(()) };
    let mut form = vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", redirect_uri)];
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
    let mut request = client.build()?.post(format!("{}/token", credentials.issuer));
    match method {
        ClientAuthMethod::ClientSecretPost => {
            form.extend([("client_id", credentials.client_id.as_str()), ("client_secret", secret.expose_secret())]);
        }
        ClientAuthMethod::ClientSecretBasic
        | ClientAuthMethod::ClientSecretJwt
        | ClientAuthMethod::PrivateKeyJwt
        | ClientAuthMethod::Tls => {
            let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(&credentials.client_id), Some(encoded(secret.expose_secret())));
        }
    }
    request.form(&form).send().await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use tokio::net::TcpListener;

    use super::*;
    use crate::apply::render::Addresses;
    use crate::recipe::Recipe;

    fn credentials(issuer: &str) -> Credentials {
        let credential = Credential::Secret("s3cret/+".into());
        let addresses = Addresses::of(issuer);
        Credentials {
            issuer: issuer.to_owned(),
            addresses,
            client_id: "beta".to_owned(),
            secret_version: 1,
            credential,
        }
    }

    fn beta() -> (RelyingParty, Application, PublicUrl) {
        let mut recipe = Recipe::embedded("django-allauth").unwrap().relying_party.unwrap();
        recipe.probe = None;
        let public_url = PublicUrl::try_from("https://beta.example".parse::<Url>().unwrap()).unwrap();
        let application = Application::new("http://127.0.0.1:1".parse().unwrap(), &public_url).unwrap();
        (recipe, application, public_url)
    }

    #[tokio::test]
    async fn the_agent_speaks_for_an_application_on_the_brokers_own_machine() {
        type Heard = Arc<Mutex<Vec<String>>>;
        async fn token(State(heard): State<Heard>, headers: HeaderMap, form: String) -> StatusCode {
            heard.lock().unwrap().push(format!("{} {form}", headers["authorization"].to_str().unwrap()));
            StatusCode::BAD_REQUEST
        }
        let heard = Heard::default();
        let routes = Router::new().route("/token", post(token)).with_state(heard.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let ((recipe, application, public_url), credentials) = (beta(), credentials(&issuer));
        let presenter = Presenter::of(&recipe, &application, &credentials, &public_url).unwrap();
        presenter.present("hwp_code").await.unwrap();
        // beta:s3cret%2F%2B
        let expected = "Basic YmV0YTpzM2NyZXQlMkYlMkI= grant_type=authorization_code&code=hwp_code&\
                        redirect_uri=https%3A%2F%2Fbeta.example%2Faccounts%2Foidc%2Fhomeward%2Flogin%2Fcallback%2F";
        assert_eq!(*heard.lock().unwrap(), [expected]);
    }

    #[test]
    fn nobody_speaks_for_an_application_over_the_network() {
        let (recipe, application, public_url) = beta();
        for issuer in ["https://login.example", "http://login.example", "https://127.0.0.1:8080", "nonsense"] {
            let credentials = credentials(issuer);
            assert!(Presenter::of(&recipe, &application, &credentials, &public_url).is_none(), "{issuer}");
        }
    }

    #[test]
    fn only_a_redirect_to_the_issuer_has_a_state() {
        let issuer = "https://login.example";
        let state = |location: &str| state_of(location, issuer);
        assert_eq!(state("https://login.example/authorize?client_id=a&state=x%20y").as_deref(), Some("x y"));
        for elsewhere in [
            "https://login.example/authorize?client_id=a",
            "https://login.example/other?state=x",
            "https://evil.example/authorize?state=x",
            "https://login.example.evil.example/authorize?state=x",
            "http://login.example/authorize?state=x",
            "https://login.example@evil.example/authorize?state=x",
            "/authorize?state=x",
        ] {
            assert_eq!(state(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(
            state_of("https://login.example/sso/authorize?state=x", "https://login.example/sso").as_deref(),
            Some("x")
        );
    }
}
