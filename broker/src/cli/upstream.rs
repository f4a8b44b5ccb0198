//! `homeward-broker upstream`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use homeward_proto::v1;
use homeward_proto::v1::admin_service_client::AdminServiceClient;
use homeward_proto::v1::upstream::Protocol;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::output::{Output, Row, time};
use crate::config::Config;
use crate::registry::{FIELDS, UpstreamProtocol};
use crate::upstream::{ANY, Preset};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a home of an identity provider that has no agent, or change one. Its page /upstream/NAME/setup on the broker
    /// says what to paste where, before and after.
    Add(Box<Add>),
    /// List homes without agent.
    List,
    /// Show one.
    Show {
        /// Its name.
        name: String,
    },
    /// Ask its provider for its metadata and keys now.
    Check {
        /// Its name.
        name: String,
    },
    /// Remove one, with its trust edges and its users' sessions.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// Name of the home, for `trust allow --home`: 1 to 63 of a-z, 0-9 and -.
    name: String,
    /// Which provider it is.
    #[arg(long, default_value = ANY, value_parser = clap::builder::PossibleValuesParser::new(Preset::names()))]
    preset: String,
    /// Its issuer, to the letter. May be left out where all have the same.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    #[command(flatten)]
    addresses: Addresses,
    /// The client id that the provider gave.
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// File with the client secret that the provider gave, which nobody else may read (chmod 600); - for standard input.
    /// The stored secret stays if this is left out.
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// The name people read on the home picker; what the preset says otherwise.
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// What is asked for beside openid, in place of what the preset says. May be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Where something stands in what the provider says of a user: username=/login. May be repeated.
    #[arg(long = "field", value_name = "NAME=/POINTER", value_parser = field)]
    fields: Vec<(String, String)>,
    /// What every user must have: /owner=my-company. May be repeated.
    #[arg(long = "require", value_name = "/POINTER=VALUE", value_parser = demand)]
    required: Vec<(String, String)>,
    /// Store it even if the provider does not answer now.
    #[arg(long)]
    no_check: bool,
}

/// Where a provider is that is run elsewhere than its preset says, for example a GitHub of one's own.
#[derive(Debug, Args)]
struct Addresses {
    /// The discovery document, if it is not below the issuer.
    #[arg(long, value_name = "URL")]
    discovery_url: Option<String>,
    /// The authorization endpoint, of one without discovery.
    #[arg(long, value_name = "URL")]
    authorization_url: Option<String>,
    /// The token endpoint, of one without discovery.
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// Who the user is, of one without discovery.
    #[arg(long, value_name = "URL")]
    user_url: Option<String>,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Add(add) => {
            let (preset, check) = (add.preset.clone(), !add.no_check);
            let wanted = definition(*add)?;
            let request = v1::PutUpstreamRequest { upstream: Some(wanted), check, validate_only: false };
            let mut put = put(&mut connect(config).await?, request).await?;
            put.setup_url = format!("{}?provider={preset}", put.setup_url);
            let (name, callback) = (&put.name, &put.callback_url);
            let sentence = format!(
                "{name} is a home. Its callback, to be registered there: {callback}\nWhat to paste where: {}\nNow say who \
                 accepts it: homeward-broker trust allow --relying-party RP --home {name}",
                put.setup_url
            );
            output.say(&sentence, &put.json());
        }
        Command::List => output.list(&all(&connect(config).await?).await?),
        Command::Show { name } => output.show(&find(&connect(config).await?, &name).await?.json()),
        Command::Check { name } => {
            let mut admin = connect(config).await?;
            let upstream = Some(find(&admin, &name).await?);
            let request = v1::PutUpstreamRequest { upstream, check: true, validate_only: true };
            let checked = put(&mut admin, request).await?;
            let sentence = match checked.protocol {
                Some(Protocol::Oauth(_)) => {
                    format!("{name} keeps the rules. Its server publishes nothing that could be asked: try a login.")
                }
                Some(Protocol::Openid(_)) | None => format!("{name} answers as it should."),
            };
            output.say(&sentence, &checked.json());
        }
        Command::Remove { name } => {
            let mut admin = connect(config).await?;
            let request = v1::RemoveUpstreamRequest { name: name.clone() };
            admin.remove_upstream(request).await.map_err(|status| refusal(&status))?;
            output.say(&format!("{name} is gone, and its users' sessions with it."), &json!({"name": name}));
        }
    }
    Ok(())
}

/// What the preset says, and in its place what the command line says.
fn definition(add: Add) -> anyhow::Result<v1::Upstream> {
    let preset = Preset::named(&add.preset).ok_or_else(|| anyhow!("there is no preset {}", add.preset))?;
    let at = add.addresses;
    let protocol = match preset.protocol(add.issuer)? {
        UpstreamProtocol::OpenId { issuer, discovery_url } => {
            let discovery_url = at.discovery_url.or(discovery_url).unwrap_or_default();
            Protocol::Openid(v1::OpenIdUpstream { issuer, discovery_url })
        }
        UpstreamProtocol::Oauth { authorization_url, token_url, user_url, dialect } => {
            Protocol::Oauth(v1::OauthUpstream {
                authorization_url: at.authorization_url.unwrap_or(authorization_url),
                token_url: at.token_url.unwrap_or(token_url),
                user_url: at.user_url.unwrap_or(user_url),
                dialect: dialect.as_str().to_owned(),
            })
        }
    };
    let own_title = (add.preset != ANY).then(|| preset.title.clone());
    let mut fields = preset.fields;
    fields.extend(add.fields);
    Ok(v1::Upstream {
        name: add.name,
        display_name: add.display_name.or(own_title).unwrap_or_default(),
        protocol: Some(protocol),
        client_id: add.client_id,
        client_secret: add.client_secret_file.as_deref().map(secret).transpose()?.unwrap_or_default(),
        scopes: if add.scopes.is_empty() { preset.scopes } else { add.scopes },
        fields: fields.into_iter().collect(),
        required: add.required.into_iter().collect(),
        ..v1::Upstream::default()
    })
}

/// What stands in a file that is its owner's alone, or comes on standard input, without the line's end.
fn secret(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        let metadata = std::fs::metadata(path).with_context(|| format!("{shown} cannot be read"))?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            bail!("{shown} may be read by others than its owner: chmod 600 {shown}");
        }
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("{shown} cannot be read"))?;
    match text.trim() {
        "" => bail!("{shown} is empty: put the client secret into it"),
        secret => Ok(secret.to_owned()),
    }
}

async fn put(admin: &mut AdminServiceClient<Channel>, request: v1::PutUpstreamRequest) -> anyhow::Result<v1::Upstream> {
    let put = admin.put_upstream(request).await.map_err(|status| refusal(&status))?.into_inner();
    Ok(put.upstream.unwrap_or_default())
}

async fn all(admin: &AdminServiceClient<Channel>) -> anyhow::Result<Vec<v1::Upstream>> {
    all_pages(async |page_token| {
        let request = v1::ListUpstreamsRequest { page_size: 0, page_token };
        let page = admin.clone().list_upstreams(request).await?.into_inner();
        Ok((page.upstreams, page.next_page_token))
    })
    .await
}

async fn find(admin: &AdminServiceClient<Channel>, name: &str) -> anyhow::Result<v1::Upstream> {
    let found = all(admin).await?.into_iter().find(|upstream| upstream.name == name);
    found.ok_or_else(|| anyhow!("there is no home {name} without agent: see `upstream list`"))
}

/// What is known of a user, and where it stands.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, pointer) = pair(text)?;
    if !FIELDS.contains(&name.as_str()) {
        return Err(format!("there is no field {name}: take one of {}", FIELDS.join(", ")));
    }
    if pointer.starts_with('/') { Ok((name, pointer)) } else { Err("a pointer begins with /: NAME=/POINTER".into()) }
}

/// What a user must have, and where it stands.
fn demand(text: &str) -> Result<(String, String), String> {
    let halves = pair(text).map_err(|_| "write it as /POINTER=VALUE")?;
    if halves.0.starts_with('/') { Ok(halves) } else { Err("a pointer begins with /: /POINTER=VALUE".into()) }
}

/// `name=value`; a value may hold further `=`.
fn pair(text: &str) -> Result<(String, String), String> {
    let halves = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = halves.ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Where the provider is.
fn provider(upstream: &v1::Upstream) -> &str {
    match &upstream.protocol {
        Some(Protocol::Openid(openid)) => &openid.issuer,
        Some(Protocol::Oauth(oauth)) => &oauth.authorization_url,
        None => "",
    }
}

impl Row for v1::Upstream {
    const COLUMNS: &'static [&'static str] = &["NAME", "DISPLAY NAME", "PROVIDER", "CLIENT ID", "PROBLEM"];

    fn cells(&self) -> Vec<String> {
        let texts = [&self.name, &self.display_name, provider(self), &self.client_id, &self.problem];
        texts.into_iter().map(ToOwned::to_owned).collect()
    }

    fn json(&self) -> Value {
        let protocol = match &self.protocol {
            Some(Protocol::Openid(openid)) => {
                json!({"kind": "openid", "issuer": openid.issuer, "discovery_url": openid.discovery_url})
            }
            Some(Protocol::Oauth(oauth)) => json!({
                "kind": "oauth",
                "authorization_url": oauth.authorization_url,
                "token_url": oauth.token_url,
                "user_url": oauth.user_url,
                "dialect": oauth.dialect,
            }),
            None => Value::Null,
        };
        json!({
            "name": self.name,
            "display_name": self.display_name,
            "protocol": protocol,
            "client_id": self.client_id,
            "scopes": self.scopes,
            "fields": self.fields,
            "required": self.required,
            "callback_url": self.callback_url,
            "setup_url": self.setup_url,
            "problem": self.problem,
            "update_time": time(self.update_time.as_ref()),
        })
    }
}
