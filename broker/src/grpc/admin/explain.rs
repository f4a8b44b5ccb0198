//! `trust explain`: what a login would come to, before anybody tries.
//!
//! 1. The home's agent is asked what its application would say of the user; if it cannot, the last login is what is known.
//! 2. The trust edge decides what of that the relying party gets, and under which names.
//! 3. The relying party's agent is asked what its application would make of that, if it may have the home's users at all.
//!
//! Whatever would go wrong on the way is a sentence that ends with what to do. Nothing changes anywhere.

use std::sync::Arc;

use homeward_proto::v1;
use serde_json::{Map, Value};
use tonic::Status;

use crate::fleet::{AccountPreview, Inquiry, NoReply, Reply};
use crate::grpc::admin::{Service, name};
use crate::grpc::status::{self, Reason};
use crate::registry::{
    ClaimMapping, Client, ConsentPolicy, Home, HomeStatus, KnownAs, Link, LinkVoid, LinkedTo, Person, ReleaseTerms,
    Snapshot, TrustEdge, TrustEdgeId, TrustError, TrustSide, UserOfHome, VerifiedIdentity, Way,
};

/// Longest login name that is asked about, in characters.
const MAX_USERNAME: usize = 150;

/// A login that nobody tries.
struct Case<'a> {
    id: TrustEdgeId,
    home: Home<'a>,
    client: Client<'a>,
    /// As it is, or as it would be if it were allowed; maybe without a consent.
    edge: Arc<TrustEdge>,
}

/// What is known of a user, and from where.
struct Known {
    identity: VerifiedIdentity,
    source: v1::IdentitySource,
}

impl Service {
    pub(super) async fn explain(&self, request: &v1::ExplainTrustRequest) -> Result<v1::ExplainTrustResponse, Status> {
        let username = request.username.as_str();
        if username.is_empty() || username.chars().count() > MAX_USERNAME || username.chars().any(char::is_control) {
            return Err(status::refused(Reason::FieldInvalid("username")));
        }
        let id = TrustEdgeId { relying_party: name(&request.relying_party)?, home: name(&request.home)? };
        let snapshot = self.registry.snapshot();
        let case = self.case(id, &snapshot)?;
        let home_status = case.home.status(self.fleet.liveness(), &self.registry.reachability);
        let mut problems = standing(&case, &snapshot, home_status);
        let Some(Known { identity, source }) = self.identity(&case, username, &mut problems).await? else {
            return Ok(v1::ExplainTrustResponse { problems, ..v1::ExplainTrustResponse::default() });
        };
        let policy = &case.client.relying_party.policy;
        let (known, link) = self.known_as(&case, &identity, &snapshot).await?;
        let terms = ReleaseTerms { edge: &case.edge, policy };
        let mut claims = ClaimMapping::of(Person { identity: &identity, subject: &known.subject }, terms);
        problems.extend(link.map(|link| explain_link(&link, &known, &mut claims, &snapshot)));
        problems.extend(lost_groups(&case, &identity));
        let account = match snapshot.edge(&case.id.relying_party, &case.id.home) {
            Some(_) => self.account(&case, &claims, &mut problems).await,
            // Whoever is not to have this home's users learns nothing of them, not even by a question.
            None => {
                let party = &case.id.relying_party;
                problems
                    .push(format!("{party} was not asked what it makes of the user, who is none of its business yet"));
                None
            }
        };
        problems.extend(account.iter().flat_map(|account| account.problems.clone()));
        Ok(v1::ExplainTrustResponse {
            identity: Some(wire_identity(&identity)),
            identity_source: source.into(),
            claims: claims.into_iter().map(wire_mapping).collect(),
            account: account.map(wire_account),
            problems,
        })
    }

    fn case<'a>(&self, id: TrustEdgeId, snapshot: &'a Snapshot) -> Result<Case<'a>, Status> {
        let unknown = |name| status::trust(&TrustError::UnknownInstance(name));
        let home = snapshot.home(&id.home).ok_or_else(|| match snapshot.instance(&id.home) {
            Some(_) => status::trust(&TrustError::NoHome(id.home.clone())),
            None => unknown(id.home.clone()),
        })?;
        // One that registered several clients has the same edges for all.
        let client = snapshot.clients().find(|client| *client.name == id.relying_party);
        let client = client.ok_or_else(|| match snapshot.instance(&id.relying_party) {
            Some(_) => status::trust(&TrustError::NoRelyingParty(id.relying_party.clone())),
            None => unknown(id.relying_party.clone()),
        })?;
        let edge = match snapshot.known_edge(&id) {
            Some(edge) => edge.clone(),
            None => Arc::new(TrustEdge::new(id.clone(), self.clock.now()).map_err(|error| status::internal(&error))?),
        };
        Ok(Case { id, home, client, edge })
    }

    /// What the home would say of the user, by its agent's word or else by that of the last login.
    async fn identity(
        &self,
        case: &Case<'_>,
        username: &str,
        problems: &mut Vec<String>,
    ) -> Result<Option<Known>, Status> {
        let home = &case.id.home;
        let why = match self.fleet.ask(home, Inquiry::Identity(username.to_owned())).await {
            Ok(Reply::Identity(asserted)) => match asserted.verify(self.clock.now()) {
                Ok(identity) => {
                    let foreseen = self.login.foresee((home, case.home.id), identity).await;
                    let identity = foreseen.map_err(|error| status::store(&error))?;
                    return Ok(Some(Known { identity, source: v1::IdentitySource::Home }));
                }
                Err(error) => {
                    problems.push(format!("what {home} says of {username} would be refused: {error}"));
                    return Ok(None);
                }
            },
            Ok(Reply::Nothing(NoReply::UnknownUser, _)) => {
                problems.push(format!("{home} knows nobody who logs in as {username}: look for the name there"));
                return Ok(None);
            }
            Ok(Reply::Nothing(NoReply::NotSupported, _)) => {
                format!("{home}'s recipe does not say how to look a user up without a login")
            }
            Ok(Reply::Nothing(NoReply::Failed, detail)) => {
                format!("{home}'s agent could not look {username} up: {detail}")
            }
            Ok(Reply::Account(_)) => format!("{home}'s agent answered something else"),
            Err(_) if matches!(case.home.way, Way::Provider(_)) => {
                format!("{home} has no agent that could be asked about {username}")
            }
            Err(error) => format!("{home} could not be asked about {username}: {error}"),
        };
        let known = self.last_login(case, username).await?;
        problems.push(match known {
            Some(_) => format!("{why}; what follows is from the last login"),
            None => format!("{why}, and no login of {username} is remembered: let the user log in somewhere once"),
        });
        Ok(known)
    }

    async fn last_login(&self, case: &Case<'_>, username: &str) -> Result<Option<Known>, Status> {
        let sessions = &self.users.sessions;
        let user = sessions.user_named(&case.id.home, username).await.map_err(|error| status::session(&error))?;
        let Some(user) = user else { return Ok(None) };
        let all = sessions.of_user(&user).await.map_err(|error| status::session(&error))?.into_iter();
        let of_home = all.map(|(_, session)| session).filter(|session| session.home_id == case.home.id);
        let newest = of_home.max_by_key(|session| session.last_login_at);
        Ok(newest.map(|session| Known { identity: session.identity, source: v1::IdentitySource::LastLogin }))
    }

    /// Whom the relying party would take the user for, and the link that has to do with it.
    async fn known_as(
        &self,
        case: &Case<'_>,
        identity: &VerifiedIdentity,
        snapshot: &Snapshot,
    ) -> Result<(KnownAs, Option<Link>), Status> {
        let (home, home_id, home_user_id) = (&case.id.home, case.home.id, identity.home_user_id.as_str());
        let user = self.users.subjects.user(home_id, home_user_id);
        let found = self.registry.links.of_alias(&user).await.map_err(|error| status::store(&error))?;
        let person = UserOfHome { home, home_id, home_user_id };
        let to = found.link.clone().map(LinkedTo::of);
        Ok((self.users.subjects.known_as(case.client, person, to.as_ref(), snapshot), found.link))
    }

    /// What the relying party's application would make of these claims.
    async fn account(
        &self,
        case: &Case<'_>,
        claims: &[ClaimMapping],
        problems: &mut Vec<String>,
    ) -> Option<AccountPreview> {
        let party = &case.id.relying_party;
        if !case.client.enrolled {
            problems.push(format!("{party} has no agent: what it makes of the user is not known here"));
            return None;
        }
        let told = claims.iter().filter_map(|it| Some((it.claim.to_owned(), it.value.clone()?)));
        let told = Value::Object(told.collect::<Map<_, _>>());
        let why = match self.fleet.ask(party, Inquiry::Account(told.to_string().into_bytes())).await {
            Ok(Reply::Account(account)) => return Some(account),
            Ok(Reply::Nothing(NoReply::Failed, detail)) => format!("{party}'s agent could not find out: {detail}"),
            Ok(Reply::Nothing(NoReply::NotSupported | NoReply::UnknownUser, _)) => {
                format!("{party}'s recipe does not say how to look accounts up")
            }
            Ok(Reply::Identity(_)) => format!("{party}'s agent answered something else"),
            Err(error) => format!("{party} could not be asked what it makes of the user: {error}"),
        };
        problems.push(why);
        None
    }
}

/// What a link does here, or why it does nothing; what it does stands beside the subject too.
fn explain_link(link: &Link, known: &KnownAs, claims: &mut [ClaimMapping], snapshot: &Snapshot) -> String {
    let (home, other) = (&link.alias.home, format!("{}@{}", link.primary.username, link.primary.home));
    if known.by_link.is_some() {
        for subject in claims.iter_mut().filter(|it| it.claim == "sub") {
            subject.reason = format!("the subject of {other}, to whom the user has linked his account");
        }
        return format!("the user is taken for {other} by a link: see homeward-broker link list");
    }
    let why = match snapshot.judge_link(link) {
        Err(LinkVoid::Over) => "it has ended".to_owned(),
        Err(LinkVoid::Gone) => "one of the two homes is not here any more".to_owned(),
        Err(LinkVoid::CutOff) => "one of the two homes is in quarantine".to_owned(),
        Err(LinkVoid::CutOffSince) => {
            "one of the two homes was in quarantine since, so the user has to unlink, and link again".to_owned()
        }
        Ok(()) => format!("that takes an edge to {} too, and --linked with the edge to {home}", link.primary.home),
    };
    format!("the user has linked his account to {other}, which has no effect here: {why}")
}

/// What is wrong with the parties and their edge, whoever the user is.
fn standing(case: &Case<'_>, snapshot: &Snapshot, home_status: HomeStatus) -> Vec<String> {
    let Case { id: TrustEdgeId { relying_party, home }, client, edge, .. } = case;
    let mut problems: Vec<String> = without_consent(&case.id, snapshot).into_iter().collect();
    for instance in [home, relying_party].into_iter().filter_map(|name| snapshot.instance(name)) {
        if !instance.is_active() {
            let name = &instance.name;
            problems.push(format!("{name} may take part in no login now: see homeward-broker instance show {name}"));
        }
    }
    if home_status != HomeStatus::Ready {
        let noun = if snapshot.upstream(home).is_some() { "upstream" } else { "instance" };
        problems.push(format!("{home} cannot log anybody in now: see homeward-broker {noun} show {home}"));
    }
    let key = client.relying_party.policy.account_key;
    problems.extend(key.check(edge, snapshot.edges_of(relying_party)).err().map(|conflict| conflict.to_string()));
    let asked = match edge.consent {
        ConsentPolicy::None => None,
        ConsentPolicy::FirstTime => Some("once"),
        ConsentPolicy::Always => Some("at every login"),
    };
    problems.extend(asked.map(|when| {
        format!("the user is asked for consent {when}: if ops answer for it, allow the edge with --consent none")
    }));
    problems
}

/// Whose consent is missing, and what gives it.
fn without_consent(id: &TrustEdgeId, snapshot: &Snapshot) -> Option<String> {
    let TrustEdgeId { relying_party, home } = id;
    let allow = format!("homeward-broker trust allow --relying-party {relying_party} --home {home}");
    let Some(edge) = snapshot.known_edge(id) else {
        return Some(format!("{relying_party} does not accept users of {home}: {allow}"));
    };
    let missing = edge.consents.missing()?;
    let lacks = match missing {
        TrustSide::Home => format!("{home} does not release its users to {relying_party}, which accepts them"),
        TrustSide::RelyingParty => format!("{relying_party} does not accept users of {home}, which releases them"),
    };
    Some(format!("{lacks}: {allow} --side {}", missing.as_str()))
}

fn lost_groups(case: &Case<'_>, identity: &VerifiedIdentity) -> Option<String> {
    let lost = case.edge.groups.is_empty() && !identity.groups.is_empty();
    let TrustEdgeId { relying_party, home } = &case.id;
    let example = identity.groups.first().map(|group| quotable(group)).unwrap_or_default();
    lost.then(|| {
        format!(
            "{relying_party} learns of no groups of {home}: if it should, allow the edge with --group '{example}=NAME THERE'"
        )
    })
}

/// A group as it may stand in quotes in what ops paste into a shell: the home chose its name.
fn quotable(group: &str) -> &str {
    let odd = |c: char| c.is_control() || matches!(c, '\'' | '=');
    if group.contains(odd) { "GROUP" } else { group }
}

fn wire_identity(identity: &VerifiedIdentity) -> v1::VerifiedIdentity {
    v1::VerifiedIdentity {
        home_user_id: identity.id_at_home().to_owned(),
        username: identity.username.clone(),
        name: identity.name.clone(),
        given_name: identity.given_name.clone(),
        family_name: identity.family_name.clone(),
        email: identity.email.clone(),
        email_verified: identity.email_verified,
        groups: identity.groups.clone(),
        auth_time: None,
        amr: Vec::new(),
        acr: String::new(),
        attributes: identity.attributes.clone().into_iter().collect(),
    }
}

fn wire_mapping(mapping: ClaimMapping) -> v1::ClaimMapping {
    v1::ClaimMapping {
        claim: mapping.claim.to_owned(),
        home_value: mapping.home_value,
        value: mapping.value.map(|value| value.to_string()).unwrap_or_default(),
        reason: mapping.reason,
    }
}

fn wire_account(account: AccountPreview) -> v1::AccountPreview {
    let found = account.matches.into_iter().map(|found| v1::AccountMatch {
        claim: found.claim,
        value: found.value,
        account: found.account,
    });
    v1::AccountPreview { matches: found.collect(), outcome: account.outcome, problems: account.problems }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_gets_out_of_its_quotes() {
        assert_eq!(["staff", "R&D $(x) team"].map(quotable), ["staff", "R&D $(x) team"]);
        for hostile in ["'; reboot; '", "a\nreboot", "a=b"] {
            assert_eq!(quotable(hostile), "GROUP");
        }
    }
}
