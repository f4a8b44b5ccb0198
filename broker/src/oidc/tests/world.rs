//! A small federation: beta and delta accept alpha; delta accepts gamma too, demands PKCE and authenticates by post.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cookie::Cookie;
use homeward_certs::identity::InstanceName;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use ipnet::IpNet;
use rustls::RootCertStore;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt as _;
use url::Url;

use crate::audit::Audit;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::config::{Current, Issuer, Lifetimes, TrustedProxies};
use crate::grants::{GrantFoundations, Grants};
use crate::keys::{self, KeySet, SigningAlgorithm};
use crate::login::{Login, LoginFailure, LoginTerms, Outcome};
use crate::oidc::{Foundations, Provider, Publication, router};
use crate::outbound::{self, Outbound};
use crate::registry::{
    self, AssertedIdentity, ClientAuthMethod, ClientPolicy, ClientSecret, GrantType, GroupMap, Instance, InstanceId,
    InstanceState, Liveness, QuarantineCause, Registry, SubjectKey, TokenSigner, TrustEdge, TrustEdgeId,
};
use crate::secret::SealingKeys;
use crate::sessions::{Session, Sessions};
use crate::storage::schema::SchemaRecord;
use crate::storage::sled::SledStore;
use crate::storage::table::Table;
use crate::storage::{Expect, Store, schema};
use crate::upstream::Upstreams;
use crate::web::{Boundary, Readiness};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(super) const ISSUER: &str = "https://login.example";
pub(super) const CALLBACK: &str = "https://beta.example/cb?method=get";
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const LIFETIMES: Lifetimes = Lifetimes {
    session: Duration::from_secs(43_200),
    session_idle: Duration::from_secs(7200),
    login: Duration::from_secs(600),
    id_token: Duration::from_secs(600),
    access_token: Duration::from_secs(600),
    authorization_code: Duration::from_secs(60),
    refresh_token: Duration::from_secs(90 * 86_400),
    refresh_token_idle: Duration::from_secs(30 * 86_400),
    instance_certificate: Duration::from_secs(86_400),
};

pub(super) struct World {
    app: Router,
    pub(super) provider: Arc<Provider>,
    pub(super) login: Login,
    pub(super) clock: ManualClock,
    pub(super) time: Clock,
    pub(super) store: Arc<SledStore>,
    pub(super) registry: Registry,
    pub(super) liveness: Liveness,
    pub(super) keys: KeySet,
    pub(super) sealing: Arc<SealingKeys>,
    pub(super) grants: Grants,
    grant_foundations: GrantFoundations,
    issuer: Issuer,
    pub(super) key_set_plan: watch::Sender<Option<Timestamp>>,
    pub(super) sessions: Sessions,
    /// As they are now; those of the login, once and for all.
    pub(super) lifetimes: watch::Sender<Lifetimes>,
    secrets: BTreeMap<String, (String, ClientSecret)>,
    /// Deleted with the last broker.
    folder: Arc<tempfile::TempDir>,
}

/// What brokers of one federation share.
struct Ground {
    sled: Arc<SledStore>,
    sealing: Arc<SealingKeys>,
    clock: (Clock, ManualClock),
    folder: Arc<tempfile::TempDir>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(ISSUER, Vec::new()).await
    }

    /// With another issuer, and networks that may be spoken to though they are not public.
    pub(super) async fn with(issuer: &str, private_networks: Vec<IpNet>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sled = Arc::new(SledStore::open(folder.path()).unwrap());
        let store: Arc<dyn Store> = sled.clone();
        let sealing = SealingKeys::new_for_test();
        let mut writes = keys::first_keys(&store, &sealing, NOW).unwrap();
        writes.push(SubjectKey::first(&store, &sealing).unwrap());
        writes.push(SchemaRecord::current().write(&store, Expect::Absent).unwrap());
        store.commit(writes).await.unwrap();
        let ground = Ground { sled, sealing, clock: Clock::manual(NOW), folder: Arc::new(folder) };
        let mut world = Self::on(ground, issuer, private_networks).await;
        world.populate().await;
        world
    }

    /// Another broker on the same store.
    pub(super) async fn beside(&self) -> Self {
        let Self { store, sealing, time, clock, folder, .. } = self;
        let (sled, sealing, folder) = (store.clone(), sealing.clone(), folder.clone());
        let ground = Ground { sled, sealing, clock: (time.clone(), clock.clone()), folder };
        let mut other = Self::on(ground, self.issuer.as_str(), Vec::new()).await;
        other.secrets.clone_from(&self.secrets);
        for (name, sighting) in self.liveness.sightings() {
            other.liveness.update(&name, |seen| *seen = registry::Sighting::clone(&sighting), NOW);
        }
        other
    }

    async fn on(ground: Ground, issuer: &str, private_networks: Vec<IpNet>) -> Self {
        let Ground { sled, sealing, clock: (time, clock), folder } = ground;
        // As on etcd: each commit rests on one thing more.
        let store = schema::hold(sled.clone()).await.unwrap();
        let (keys, keep_keys_fresh) = KeySet::open(store.clone(), sealing.clone()).await.unwrap();
        tokio::spawn(keep_keys_fresh);
        let subjects = SubjectKey::load(&store, &sealing).await.unwrap();
        let (registry, keep_fresh) = Registry::open(store.clone()).await.unwrap();
        tokio::spawn(keep_fresh);
        let liveness = Liveness::default();
        let issuer = Issuer::parse(issuer).unwrap();
        let (lifetimes, current) = watch::channel(LIFETIMES);
        let current = Current::of(move || *current.borrow());
        let audit = Audit::unheard();
        let terms = LoginTerms {
            subjects: subjects.clone(),
            issuer: issuer.clone(),
            lifetime: LIFETIMES.login,
            audit: audit.clone(),
        };
        let login = Login::new(store.clone(), sealing.clone(), registry.clone(), liveness.clone(), terms);
        let (key_set_plan, next_change) = watch::channel(None);
        let outbound = outbound::Settings { issuer: issuer.clone(), private_networks, roots: RootCertStore::empty() };
        let sessions = Sessions::new(store.clone(), current.clone(), audit.clone());
        let outbound = Outbound::new(outbound, registry.clone(), time.clone()).unwrap();
        let foundations = Foundations {
            store: store.clone(),
            sealing: sealing.clone(),
            upstreams: Upstreams::new(sealing.clone(), registry.clone(), outbound.clone(), issuer.clone()),
            outbound,
            registry: registry.clone(),
            liveness: liveness.clone(),
            keys: keys.clone(),
            agent_url: Url::parse("https://login.example:8443").unwrap(),
            publication: Publication { max_age: Duration::from_secs(300).into(), next_change },
            subjects: subjects.clone(),
            sessions: sessions.clone(),
            audit: audit.clone(),
            clock: time.clone(),
        };
        let of_grants = GrantFoundations {
            store: store.clone(),
            sealing: sealing.clone(),
            signer: TokenSigner::new(keys.clone(), liveness.clone()),
            subjects,
            audit: audit.clone(),
        };
        let boundary = Boundary::new(&issuer, TrustedProxies::new(Vec::new()));
        let grants = Grants::new(of_grants.clone(), issuer.clone(), current.clone());
        let provider = Provider::new(foundations, login.clone(), issuer.clone(), current);
        let provider = Arc::new(provider);
        let readiness = Readiness::new(sled.clone(), audit.clone(), None.into(), None.into());
        let app = router(provider.clone(), boundary.clone().audited(audit.clone()))
            .merge(crate::web::router(readiness, boundary));
        let secrets = BTreeMap::new();
        Self {
            app,
            provider,
            login,
            clock,
            time,
            store: sled,
            registry,
            liveness,
            keys,
            sealing,
            grants,
            grant_foundations: of_grants,
            issuer,
            key_set_plan,
            sessions,
            lifetimes,
            secrets,
            folder,
        }
    }

    async fn populate(&mut self) {
        for name in ["alpha", "beta", "gamma", "delta"] {
            let secret = ClientSecret::generate(&self.sealing, 1).unwrap();
            let opened = secret.open(&self.sealing).unwrap().to_string();
            self.secrets.insert(name.to_owned(), (opened, secret.clone()));
            self.save(&instance(name, &secret)).await;
            let ready = |sighting: &mut registry::Sighting| (sighting.online, sighting.home_ready) = (true, true);
            self.liveness.update(&name.parse().unwrap(), ready, NOW);
        }
        for (relying_party, home) in [("beta", "alpha"), ("delta", "alpha"), ("delta", "gamma")] {
            self.allow(relying_party, home).await;
        }
    }

    pub(super) async fn allow(&self, relying_party: &str, home: &str) {
        self.allow_with(relying_party, home, |_| {}).await;
    }

    /// Puts an edge, changed by this.
    pub(super) async fn allow_with(&self, relying_party: &str, home: &str, change: impl FnOnce(&mut TrustEdge)) {
        let id = TrustEdgeId { relying_party: relying_party.parse().unwrap(), home: home.parse().unwrap() };
        let email_domains = vec![format!("{home}.example").parse().unwrap()];
        let groups = GroupMap::of(["staff=staff".parse().unwrap()]).unwrap();
        let mut edge = TrustEdge { email_domains, groups, ..TrustEdge::new(id, NOW).unwrap() };
        if let Some(old) = self.registry.snapshot().edge(&edge.id.relying_party, &edge.id.home) {
            edge.epoch = old.epoch;
        }
        change(&mut edge);
        let write = self.registry.edges.put(&edge.id.key(), &edge, Expect::Any).unwrap();
        self.registry.reached(self.store.commit(vec![write]).await.unwrap()).await.unwrap();
    }

    pub(super) async fn change_edge(&self, relying_party: &str, home: &str, change: impl FnOnce(&mut TrustEdge)) {
        let (relying_party, home) = (relying_party.parse().unwrap(), home.parse().unwrap());
        let mut edge = TrustEdge::clone(self.registry.snapshot().edge(&relying_party, &home).unwrap());
        change(&mut edge);
        let write = self.registry.edges.put(&edge.id.key(), &edge, Expect::Any).unwrap();
        self.registry.reached(self.store.commit(vec![write]).await.unwrap()).await.unwrap();
    }

    /// Changes beta's policy.
    pub(super) async fn change_policy(&self, change: impl FnOnce(&mut ClientPolicy)) {
        self.change("beta", |beta| change(&mut beta.relying_party.as_mut().unwrap().policy)).await;
    }

    pub(super) async fn deny(&self, relying_party: &str, home: &str) {
        let write = self.registry.edges.delete(&format!("{relying_party}.{home}"), Expect::Any);
        self.registry.reached(self.store.commit(vec![write]).await.unwrap()).await.unwrap();
    }

    pub(super) async fn change(&self, name: &str, change: impl FnOnce(&mut Instance)) {
        let mut instance = Instance::clone(self.registry.snapshot().instance(&name.parse().unwrap()).unwrap());
        change(&mut instance);
        self.save(&instance).await;
    }

    /// Ends the session of this name, as one commit does it.
    pub(super) async fn end_session(&self, sid: &str) {
        let sessions = Table::<Session>::new(self.store.clone());
        self.store.commit(vec![sessions.delete(sid, Expect::Any)]).await.unwrap();
    }

    pub(super) fn instance_id(&self, name: &str) -> InstanceId {
        self.registry.snapshot().instance(&name.parse().unwrap()).unwrap().id
    }

    /// Lets a client ask for tokens in this way too.
    pub(super) async fn grant_type(&self, name: &str, grant_type: GrantType) {
        let allow = |instance: &mut Instance| {
            instance.relying_party.as_mut().unwrap().policy.grant_types.insert(grant_type);
        };
        self.change(name, allow).await;
    }

    pub(super) async fn quarantine(&self, name: &str) {
        let state = InstanceState::Quarantined { reason: "test".into(), since: NOW, cause: QuarantineCause::Ops };
        self.change(name, |instance| instance.state = state).await;
    }

    async fn save(&self, instance: &Instance) {
        let write = self.registry.instances.put(instance.name.as_str(), instance, Expect::Any).unwrap();
        self.registry.reached(self.store.commit(vec![write]).await.unwrap()).await.unwrap();
    }

    pub(super) fn client_id(&self, name: &str) -> String {
        let snapshot = self.registry.snapshot();
        let instance = snapshot.instance(&name.parse::<InstanceName>().unwrap()).unwrap();
        instance.relying_party.as_ref().unwrap().client_id.to_string()
    }

    pub(super) fn secret(&self, name: &str) -> &str {
        &self.secrets[name].0
    }

    pub(super) fn first_secret(&self, name: &str) -> &ClientSecret {
        &self.secrets[name].1
    }

    /// Grants on another store.
    pub(super) fn grants_on(&self, store: Arc<dyn Store>) -> Grants {
        Grants::new(GrantFoundations { store, ..self.grant_foundations.clone() }, self.issuer.clone(), LIFETIMES.into())
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// beta's request, with some parameters replaced; an empty one counts as absent.
    pub(super) fn request(&self, replaced: &[(&str, &str)]) -> String {
        let beta = self.client_id("beta");
        let mut parameters: BTreeMap<&str, &str> = [
            ("client_id", beta.as_str()),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid profile email"),
            ("state", "state"),
            ("nonce", "nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]
        .into();
        parameters.extend(replaced.iter().copied());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
    }

    pub(super) async fn authorize(&self, browser: &mut Browser, replaced: &[(&str, &str)]) -> Answer {
        browser.get(self, &format!("/authorize?{}", self.request(replaced))).await
    }

    /// What alpha does with the browser that brings this ticket; gives the address of the return.
    pub(super) async fn vouch(&self, portal: &str) -> String {
        self.vouch_for(portal, alice(self.time.now())).await
    }

    pub(super) async fn vouch_for(&self, portal: &str, identity: AssertedIdentity) -> String {
        self.complete(portal, Outcome::Identity(identity)).await
    }

    pub(super) async fn fail(&self, portal: &str, failure: LoginFailure) -> String {
        self.complete(portal, Outcome::Failure(failure)).await
    }

    async fn complete(&self, portal: &str, outcome: Outcome) -> String {
        let home = Url::parse(portal).unwrap().host_str().unwrap().trim_end_matches(".example").to_owned();
        let (home, id) = (home.parse().unwrap(), self.instance_id(&home));
        let address = self.login.complete_ticket((&home, id), &ticket(portal), outcome, self.time.now()).await.unwrap();
        address.strip_prefix(ISSUER).unwrap().to_owned()
    }

    /// A whole login of alice at beta; gives the code.
    pub(super) async fn sign_in(&self, browser: &mut Browser, replaced: &[(&str, &str)]) -> String {
        let portal = self.authorize(browser, replaced).await.location();
        let back = browser.get(self, &self.vouch(&portal).await).await;
        back.parameter("code").unwrap_or_else(|| panic!("{}", back.location()))
    }

    /// beta's redemption, with some parameters replaced.
    pub(super) async fn redeem(&self, code: &str, replaced: &[(&str, &str)]) -> Answer {
        let basic = self.basic("beta");
        let mut parameters: BTreeMap<&str, &str> = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ]
        .into();
        parameters.extend(replaced.iter().copied());
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.token(Some(&basic), &form).await
    }

    pub(super) fn basic(&self, name: &str) -> String {
        self.basic_of(&self.client_id(name), self.secret(name))
    }

    pub(super) fn basic_of(&self, client_id: &str, secret: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{client_id}:{secret}")))
    }

    pub(super) async fn post(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(form.to_owned().into()).unwrap()).await
    }

    pub(super) async fn token(&self, authorization: Option<&str>, form: &str) -> Answer {
        let mut request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request.body(form.to_owned().into()).unwrap()).await
    }

    pub(super) async fn userinfo(&self, token: &str) -> Answer {
        let request = Request::get("/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(super) fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

/// As [`registry::tests::instance`], with callbacks; delta has other ways.
fn instance(name: &str, secret: &ClientSecret) -> Instance {
    let mut instance = registry::tests::instance(name, secret);
    instance.display_name = format!("<{name}> & co");
    let party = instance.relying_party.as_mut().unwrap();
    let callbacks = [format!("https://{name}.example/cb?method=get"), format!("https://{name}.example/two")];
    party.redirect_uris = callbacks.into();
    if name == "delta" {
        party.auth_method = ClientAuthMethod::ClientSecretPost;
        party.id_token_alg = SigningAlgorithm::Es256;
        party.pkce_required = true;
    }
    instance
}

pub(super) fn alice(auth_time: Timestamp) -> AssertedIdentity {
    AssertedIdentity {
        home_user_id: "17".into(),
        username: "alice".into(),
        name: "Alice Archer".into(),
        given_name: "Alice".into(),
        family_name: "Archer".into(),
        email: "alice@alpha.example".into(),
        email_verified: true,
        groups: vec!["staff".into()],
        auth_time: Some(auth_time),
        amr: vec!["pwd".into()],
        acr: None,
        attributes: BTreeMap::new(),
        name_is_held: false,
    }
}

pub(super) fn ticket(portal: &str) -> String {
    Url::parse(portal).unwrap().query_pairs().find(|(name, _)| name == "ticket").unwrap().1.into_owned()
}

/// The claims of a JWT, unverified.
pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[derive(Clone, Default)]
pub(super) struct Browser {
    pub(super) cookies: BTreeMap<String, String>,
}

impl Browser {
    pub(super) async fn get(&mut self, world: &World, path: &str) -> Answer {
        self.send(world, Request::get(path), Body::empty()).await
    }

    pub(super) async fn post(&mut self, world: &World, path: &str, form: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.post_text(world, path, &form).await
    }

    pub(super) async fn post_text(&mut self, world: &World, path: &str, form: &str) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(world, request, form.to_owned().into()).await
    }

    pub(super) async fn send(&mut self, world: &World, request: http::request::Builder, body: Body) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = world.send(request.header(COOKIE, cookies.join("; ")).body(body).unwrap()).await;
        for set in answer.headers.get_all(SET_COOKIE) {
            let cookie = Cookie::parse(set.to_str().unwrap()).unwrap();
            self.cookies.insert(cookie.name().to_owned(), cookie.value().to_owned());
        }
        answer
    }

    pub(super) fn session(&self) -> Option<&String> {
        self.cookies.get("__Host-homeward-session")
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn location(&self) -> String {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text());
        self.headers[LOCATION].to_str().unwrap().to_owned()
    }

    /// A parameter of the answer that goes to the relying party.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let url = Url::parse(&self.location()).unwrap();
        url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// PAGE: our own error page and nothing else.
    pub(super) fn assert_page(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert!(self.headers.get(LOCATION).is_none());
        assert!(self.header("content-type").starts_with("text/html"));
        assert!(self.text().contains(self.header("x-request-id")) && !self.header("x-request-id").is_empty());
    }

    /// REDIR(error): to the registered callback, with state and issuer and without a code.
    pub(super) fn assert_redirect(&self, error: &str) {
        assert!(self.location().starts_with(CALLBACK), "{}", self.location());
        assert_eq!(self.parameter("error").as_deref(), Some(error), "{}", self.location());
        assert_eq!(self.parameter("state").as_deref(), Some("state"));
        assert_eq!(self.parameter("iss").as_deref(), Some(ISSUER));
        assert_eq!(self.parameter("code"), None);
    }

    /// TOK(status error).
    pub(super) fn assert_token_error(&self, status: u16, error: &str) {
        assert_eq!((self.status.as_u16(), self.json()["error"].as_str()), (status, Some(error)), "{}", self.text());
        assert_eq!(self.header("cache-control"), "no-store");
        // T8
        let description = self.json()["error_description"].as_str().unwrap().to_owned();
        assert!(description.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'));
    }
}
