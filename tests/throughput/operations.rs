//! What is measured: each operation as an ordinary relying party does it.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::ValueEnum;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::connection::Connection;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// GET of the provider's metadata.
    Discovery,
    /// GET of the public keys.
    Jwks,
    /// A login with a session that exists: authorization request with PKCE, state and nonce, redirect with a code, the
    /// code for tokens.
    Flow,
    /// A refresh token for tokens, and a new refresh token that is used next.
    Refresh,
    /// Userinfo with an access token.
    Userinfo,
    /// Introspection of an access token.
    Introspect,
}

impl Operation {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 6] =
        [Self::Flow, Self::Refresh, Self::Userinfo, Self::Introspect, Self::Discovery, Self::Jwks];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flow => "code flow",
            Self::Refresh => "refresh",
            Self::Userinfo => "userinfo",
            Self::Introspect => "introspection",
            Self::Discovery => "discovery",
            Self::Jwks => "JWKS",
        }
    }
}

/// A provider under load.
#[derive(Debug)]
pub(crate) struct Target {
    /// For the table.
    pub(crate) name: String,
    /// Its process, with all its threads.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its origin.
    pub(crate) issuer: String,
    /// Where things are, below the origin.
    pub(crate) paths: Paths,
    /// The relying party.
    pub(crate) client: Client,
    /// Cookies of sessions; connection `i` uses the `i`th, modulo their number.
    pub(crate) cookies: Vec<String>,
}

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paths {
    pub(crate) authorize: &'static str,
    pub(crate) token: &'static str,
    pub(crate) userinfo: &'static str,
    pub(crate) introspect: &'static str,
    pub(crate) jwks: &'static str,
}

/// The relying party that everything is done for.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
}

impl Client {
    fn basic(&self) -> String {
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&self.id), encoded(&self.secret))))
    }
}

/// One connection and what it holds between operations.
pub(crate) struct Worker<'a> {
    target: &'a Target,
    connection: Connection,
    cookie: &'a str,
    basic: String,
    access_token: String,
    refresh_token: String,
    count: u64,
    number: usize,
}

impl<'a> Worker<'a> {
    /// The `number`th connection; holds tokens before it starts.
    ///
    /// # Errors
    /// When it cannot log in.
    pub(crate) async fn new(target: &'a Target, number: usize) -> anyhow::Result<Self> {
        let host = target.issuer.split("://").nth(1).context("the issuer is an address")?;
        let cookie = target.cookies.get(number % target.cookies.len()).context("there is no session")?;
        let mut worker = Self {
            target,
            connection: Connection::open(target.address, host).await?,
            cookie,
            basic: target.client.basic(),
            access_token: String::new(),
            refresh_token: String::new(),
            count: 0,
            number,
        };
        worker.flow().await?;
        Ok(worker)
    }

    /// Does it once.
    ///
    /// # Errors
    /// When the answer is not the right one.
    pub(crate) async fn perform(&mut self, operation: Operation) -> anyhow::Result<()> {
        let paths = self.target.paths;
        match operation {
            Operation::Discovery => self.connection.get("/.well-known/openid-configuration", "", "").await?.expect_ok(),
            Operation::Jwks => self.connection.get(paths.jwks, "", "").await?.expect_ok(),
            Operation::Flow => self.flow().await,
            Operation::Refresh => self.refresh().await,
            Operation::Userinfo => {
                let answer = self.connection.get(paths.userinfo, "", &self.access_token).await?;
                answer.json()?["sub"].as_str().map(drop).context("userinfo without sub")
            }
            Operation::Introspect => {
                let form = form(&[("token", &self.access_token), ("token_type_hint", "access_token")]);
                let answer = self.connection.post(paths.introspect, &self.basic, form).await?.json()?;
                if answer["active"] == true { Ok(()) } else { bail!("the token is not active: {answer}") }
            }
        }
    }

    async fn flow(&mut self) -> anyhow::Result<()> {
        self.count += 1;
        let (verifier, state) = (format!("verifier-{:043}-{}", self.count, self.number), self.count.to_string());
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let (client, paths) = (&self.target.client, self.target.paths);
        let query = form(&[
            ("client_id", &client.id),
            ("redirect_uri", &client.redirect_uri),
            ("response_type", "code"),
            ("scope", &client.scope),
            ("state", &state),
            ("nonce", &verifier),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let answer = self.connection.get(&format!("{}?{query}", paths.authorize), self.cookie, "").await?;
        let location = answer.location.clone().with_context(|| format!("no redirect: {}", answer.status))?;
        let url = Url::parse(&location).with_context(|| format!("redirected to {location}"))?;
        let parameter = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value.into_owned());
        let code = parameter("code").with_context(|| format!("no code: {location}"))?;
        if !location.starts_with(&client.redirect_uri) || parameter("state").as_ref() != Some(&state) {
            bail!("another answer than to this request: {location}");
        }
        let form = form(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &client.redirect_uri),
            ("code_verifier", &verifier),
        ]);
        let tokens = self.connection.post(paths.token, &self.basic, form).await?.json()?;
        let text = |name: &str| tokens[name].as_str().map(str::to_owned);
        let id_token = text("id_token").context("no ID token")?;
        if self.count % 16 == 1 {
            check(&id_token, &client.id, &self.target.issuer, &verifier)?;
        }
        self.access_token = text("access_token").context("no access token")?;
        self.refresh_token = text("refresh_token").unwrap_or_default();
        Ok(())
    }

    async fn refresh(&mut self) -> anyhow::Result<()> {
        let form = form(&[("grant_type", "refresh_token"), ("refresh_token", &self.refresh_token)]);
        let tokens = self.connection.post(self.target.paths.token, &self.basic, form).await?.json()?;
        let next = tokens["refresh_token"].as_str().context("no new refresh token")?;
        if next == self.refresh_token {
            bail!("the refresh token was not rotated");
        }
        next.clone_into(&mut self.refresh_token);
        Ok(())
    }
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// That an ID token is for this client and this login; signatures are the tests' business.
fn check(token: &str, client_id: &str, issuer: &str, nonce: &str) -> anyhow::Result<()> {
    let claims = token.split('.').nth(1).context("no JWT")?;
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    if claims["aud"] == client_id && claims["iss"] == issuer && claims["nonce"] == nonce {
        return Ok(());
    }
    bail!("the ID token is another login's: {claims}")
}
