//! `homeward-broker trust`.

use clap::{Args, Subcommand, ValueEnum};
use homeward_proto::v1;
use serde_json::json;

use crate::cli::admin::{all_pages, connect, refusal};
use crate::cli::explanation;
use crate::cli::output::{Output, Row, side};
use crate::config::Config;
use crate::registry::{EmailDomain, GroupMapping, UsernameTemplate};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let a relying party accept a home's users. Said again, it replaces what was said before.
    Allow(Box<Allow>),
    /// Let a relying party accept a home's users no more. Their tokens and sessions there end.
    Deny(Deny),
    /// List who accepts whom.
    List,
    /// Say what a relying party would learn of a user, and what its application would make of it, before anybody tries.
    Explain(Explain),
}

/// Whose login where.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The relying party.
    #[arg(long, visible_alias = "rp")]
    relying_party: String,
    /// The user, as login name @ home.
    #[arg(long, value_name = "NAME@HOME", required_unless_present_all = ["home", "username"], value_parser = named)]
    user: Option<(String, String)>,
    /// The home, in place of --user.
    #[arg(long, conflicts_with = "user", requires = "username")]
    home: Option<String>,
    /// The login name at the home, in place of --user.
    #[arg(long, conflicts_with = "user", requires = "home")]
    username: Option<String>,
}

/// A user and his home, which is what follows the last @, for user names are often addresses.
fn named(text: &str) -> Result<(String, String), String> {
    let parts = text.rsplit_once('@').map(|(username, home)| (username.to_owned(), home.to_owned()));
    parts.ok_or_else(|| "write the user as name@home, for example alice@alpha".into())
}

impl From<Explain> for v1::ExplainTrustRequest {
    fn from(asked: Explain) -> Self {
        let (username, home) = asked.user.or(asked.username.zip(asked.home)).unwrap_or_default();
        Self { relying_party: asked.relying_party, home, username }
    }
}

/// An edge as it is to be.
#[derive(Args, Debug)]
pub(super) struct Allow {
    /// The instance that accepts.
    #[arg(long)]
    relying_party: String,
    /// The instance whose users are accepted.
    #[arg(long)]
    home: String,
    /// A domain whose email addresses this home may call verified. May be repeated; without it the relying party sees
    /// every address of this home as unverified.
    #[arg(long = "email-domain", value_name = "DOMAIN")]
    email_domains: Vec<EmailDomain>,
    /// How the relying party's name of a user is made, of {username}, {email} or {local_part}, and {home}; without it
    /// {username}@{home}.
    #[arg(long, value_name = "TEMPLATE")]
    username_template: Option<UsernameTemplate>,
    /// A group of the home that the relying party learns of, and its name there; '*=*' for all by their own names. May be
    /// repeated; without it the relying party learns of no groups.
    #[arg(long = "group", value_name = "HOME=RELYING PARTY")]
    groups: Vec<GroupMapping>,
    /// Whether users are asked before the relying party learns anything of them; without it they are not.
    #[arg(long, value_name = "WHEN", value_enum)]
    consent: Option<Consent>,
    /// The relying party may call the home's API in the name of users whom the home knows (token exchange).
    #[arg(long)]
    api: bool,
    /// A user of this home who has linked his account to one at another home, which the relying party accepts too, is taken
    /// for that one. The home speaks for users of the other one by that.
    #[arg(long)]
    linked: bool,
    /// Give the consent of this side only: nobody is let in before the other has given its own. What is not said beside it
    /// stays as it is.
    #[arg(long, value_enum)]
    side: Option<Side>,
}

/// An edge as it is to be no more.
#[derive(Args, Debug)]
pub(super) struct Deny {
    /// The instance that accepts.
    #[arg(long)]
    relying_party: String,
    /// The instance whose users are accepted.
    #[arg(long)]
    home: String,
    /// Take back the consent of this side only: the other's stays, and so does what was said of the edge.
    #[arg(long, value_enum)]
    side: Option<Side>,
}

/// An end of an edge.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Side {
    /// The home, which releases its users.
    Home,
    /// The relying party, which accepts them.
    RelyingParty,
}

impl From<Side> for v1::TrustSide {
    fn from(side: Side) -> Self {
        match side {
            Side::Home => Self::Home,
            Side::RelyingParty => Self::RelyingParty,
        }
    }
}

impl From<Allow> for v1::AllowTrustRequest {
    fn from(wanted: Allow) -> Self {
        let side = wanted.side.map_or(v1::TrustSide::Unspecified, v1::TrustSide::from);
        Self { trust_edge: Some(wanted.into()), side: side.into() }
    }
}

impl From<Deny> for v1::DenyTrustRequest {
    fn from(unwanted: Deny) -> Self {
        let side = unwanted.side.map_or(v1::TrustSide::Unspecified, v1::TrustSide::from);
        Self { relying_party: unwanted.relying_party, home: unwanted.home, side: side.into() }
    }
}

impl From<Allow> for v1::TrustEdge {
    fn from(wanted: Allow) -> Self {
        let groups = wanted.groups.iter().map(|mapping| {
            let (home_group, relying_party_group) = mapping.names();
            v1::GroupMapping { home_group: home_group.to_owned(), relying_party_group: relying_party_group.to_owned() }
        });
        Self {
            relying_party: wanted.relying_party,
            home: wanted.home,
            email_domains: wanted.email_domains.iter().map(ToString::to_string).collect(),
            update_time: None,
            consent: wanted.consent.map_or(v1::ConsentPolicy::Unspecified, v1::ConsentPolicy::from).into(),
            api_access: wanted.api,
            username_template: wanted.username_template.map(|template| template.to_string()).unwrap_or_default(),
            groups: groups.collect(),
            missing_side: v1::TrustSide::Unspecified.into(),
            linked: wanted.linked,
        }
    }
}

/// Whether users are asked.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Consent {
    /// Never: ops answer for it.
    None,
    /// Once, and again for anything new.
    First,
    /// At every login.
    Always,
}

impl From<Consent> for v1::ConsentPolicy {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::None => Self::None,
            Consent::First => Self::FirstTime,
            Consent::Always => Self::Always,
        }
    }
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> anyhow::Result<()> {
    let mut admin = connect(config).await?;
    match command {
        Command::Allow(wanted) => {
            let request = v1::AllowTrustRequest::from(*wanted);
            let allowed = admin.allow_trust(request).await.map_err(|status| refusal(&status))?.into_inner();
            let edge = allowed.trust_edge.unwrap_or_default();
            output.say(&format!("{}\n{}", standing(&edge), terms(&edge)), &edge.json());
        }
        Command::Explain(asked) => {
            let request = v1::ExplainTrustRequest::from(asked);
            let explained = admin.explain_trust(request.clone()).await.map_err(|status| refusal(&status))?;
            explanation::print(output, &request, &explained.into_inner());
        }
        Command::Deny(unwanted) => {
            let request = v1::DenyTrustRequest::from(unwanted);
            admin.deny_trust(request.clone()).await.map_err(|status| refusal(&status))?;
            let v1::DenyTrustRequest { relying_party, home, .. } = &request;
            let sentence = match request.side() {
                v1::TrustSide::Home => {
                    format!("{home} releases no users to {relying_party} any more; they are logged out there.")
                }
                v1::TrustSide::Unspecified | v1::TrustSide::RelyingParty => {
                    format!("{relying_party} accepts no users of {home} any more; theirs are logged out there.")
                }
            };
            let shown = json!({
                "relying_party": relying_party,
                "home": home,
                "side": side(request.side()),
                "denied": true,
            });
            output.say(&sentence, &shown);
        }
        Command::List => {
            let all = all_pages(async |page_token| {
                let request = v1::ListTrustEdgesRequest { page_size: 0, page_token };
                let page = admin.clone().list_trust_edges(request).await?.into_inner();
                Ok((page.trust_edges, page.next_page_token))
            })
            .await?;
            output.list(&all);
        }
    }
    Ok(())
}

/// On which terms: whoever says an edge again sees what has become of the ones of before.
fn terms(edge: &v1::TrustEdge) -> String {
    const TERMS: [&str; 6] = ["USER NAME", "GROUPS", "VERIFIED EMAIL DOMAINS", "CONSENT", "API", "LINKED"];
    let named = v1::TrustEdge::COLUMNS.iter().zip(edge.cells()).filter(|(name, _)| TERMS.contains(name));
    let named = named.map(|(name, said)| {
        let said = if said.is_empty() { "none" } else { &said };
        format!("{}: {said}", name.to_lowercase())
    });
    format!("On these terms: {}.", named.collect::<Vec<_>>().join("; "))
}

/// Who accepts whom now, or whose word is still missing.
fn standing(edge: &v1::TrustEdge) -> String {
    let v1::TrustEdge { relying_party, home, .. } = edge;
    match edge.missing_side() {
        v1::TrustSide::Unspecified => format!("{relying_party} accepts users of {home}."),
        v1::TrustSide::Home => format!(
            "{relying_party} would accept users of {home}; nobody is let in before {home} consents: --side home."
        ),
        v1::TrustSide::RelyingParty => format!(
            "{home} releases its users to {relying_party}; nobody is let in before {relying_party} consents: --side \
             relying-party."
        ),
    }
}
