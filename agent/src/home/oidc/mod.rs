//! Home method `oidc`: the application is an OpenID provider itself, and the agent is its client. Users log in on the
//! application's own page, with all that it asks of them; what it says of them then, the agent vouches for.
//!
//! The way there and back is [`super::elsewhere`]'s, the protocol's rules are [`crate::provider`]'s, and how the client
//! comes to be at the application is [`registration`]'s.

pub(crate) mod registration;

use std::collections::BTreeMap;

use homeward_proto::v1::{OpenTicketResponse, VerifiedIdentity};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

use self::registration::{KnownAs, Origin, ProviderClient, RegistrationError};
use super::decision::min_auth_time;
use super::elsewhere::{ElsewhereError, NotOpened};
use super::session::Answers;
use super::vouching;
use crate::clock;
use crate::config::Config;
use crate::config::home::HomeMethod;
use crate::disk::PrivateDir;
use crate::parameters::{ParameterError, Parameters};
use crate::provider::wire::Wire;
use crate::provider::{Answer, Demand, Pending, Provider, ProviderError, SecretShown};
use crate::recipe::AppPath;
use crate::recipe::content::placeholder;
use crate::recipe::home::Home;
use crate::recipe::provider::{Attributes, CLAIMS, ClientMaking};
use crate::recipe::relying_party::ClientAuthMethod;

/// The application as OpenID provider.
#[derive(Debug)]
pub(crate) struct OidcHome {
    /// The client there.
    pub(super) client: ProviderClient,
    /// Where in the claims the user is.
    pub(super) recipe: Home,
    /// What else is asked, and where.
    pub(super) attributes: Option<(Attributes, Url)>,
}

impl OidcHome {
    /// As configured.
    pub(super) fn open(config: &Config, data: &PrivateDir) -> Result<Self, NotOpened> {
        let home = config.recipe.home.as_ref().zip(config.home.as_ref());
        let found = home.and_then(|(recipe, home)| Some((recipe, recipe.oidc.as_ref()?, &home.oidc)));
        let (home, recipe, said) = found.ok_or(NotOpened::Incomplete)?;
        let origin = config.public_url.origin();
        let below = |path: &AppPath| format!("{origin}{}", path.as_str().trim_end_matches('/'));
        let of_recipe = recipe.issuer_path.as_ref().map(below);
        let wire = Wire::new(said.ca_file.as_deref())?.beside(&config.public_url, &config.app_url)?;
        let known_as = KnownAs {
            issuer: said.issuer.clone().or(of_recipe).ok_or(NotOpened::Incomplete)?,
            redirect_uri: format!("{origin}{}oidc/callback", config.portal.path),
            scopes: recipe.scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
            shown: match recipe.client_auth_method {
                ClientAuthMethod::ClientSecretPost => SecretShown::Post,
                _ => SecretShown::Basic,
            },
        };
        let origin_of_client = match said.client_id.clone().zip(said.client_secret_file.clone()) {
            Some((client_id, secret_file)) => Origin::Operator { client_id, secret_file },
            None => Origin::Commands { commands: commands(&recipe.client, &config.parameters)?, data: data.clone() },
        };
        let attributes = recipe.attributes.clone();
        let address = |attributes: Attributes| {
            Some((attributes.clone(), Url::parse(&format!("{origin}{}", attributes.path)).ok()?))
        };
        Ok(Self {
            client: ProviderClient { wire, known_as, origin: origin_of_client, made: Mutex::default() },
            recipe: recipe.as_home(home),
            attributes: attributes.and_then(address),
        })
    }

    /// Where the browser goes.
    pub(super) async fn begin(&self, ticket: &OpenTicketResponse) -> Result<(Url, Pending), ElsewhereError> {
        let provider = self.client.provider().await?;
        let demand = Demand {
            silent: ticket.silent,
            min_auth_time: min_auth_time(ticket),
            login_hint: ticket.login_hint.clone(),
            acr_values: ticket.acr_values.clone(),
            ui_locales: ticket.ui_locales.clone(),
        };
        Ok(provider.begin(&demand, clock::now()).await?)
    }

    /// Who has logged in there.
    pub(super) async fn finish(
        &self,
        pending: &Pending,
        answer: Answer,
        now: OffsetDateTime,
    ) -> Result<VerifiedIdentity, ElsewhereError> {
        let provider = self.client.provider().await?;
        let said = self.ask(&provider, pending, answer, now).await;
        if let Err(ProviderError::NotRedeemed(code)) = &said
            && code.is_unknown_client()
        {
            self.client.is_unknown().await;
        }
        let documents = said?;
        Ok(vouching::identity(&self.recipe, &Answers::new(&self.recipe, documents, now), HomeMethod::Oidc, now)?)
    }

    async fn ask(
        &self,
        provider: &Provider,
        pending: &Pending,
        answer: Answer,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<String, Value>, ProviderError> {
        let signed_in = provider.finish(pending, answer, now).await?;
        let claims = provider.claims(&signed_in).await?;
        let mut documents = BTreeMap::from([(CLAIMS.to_owned(), claims)]);
        if let Some((attributes, address)) = &self.attributes {
            let document = provider.document(address, "the user's attributes", &signed_in).await?;
            documents.insert(attributes.name.clone(), document);
        }
        Ok(documents)
    }
}

/// With the operator's parameters in them.
fn commands(recipe: &[ClientMaking], parameters: &Parameters) -> Result<Vec<Vec<String>>, NotOpened> {
    let filled = |argument: &String| match placeholder(argument) {
        Some(name) => {
            let value = parameters.plain(name).map(str::to_owned);
            value.ok_or_else(|| NotOpened::Parameter(ParameterError::Missing(name.to_owned())))
        }
        None => Ok(argument.clone()),
    };
    recipe.iter().map(|making| making.command.iter().map(filled).collect()).collect()
}

impl From<RegistrationError> for ElsewhereError {
    fn from(error: RegistrationError) -> Self {
        Self::Registration(Box::new(error))
    }
}
