//! The picture of the registry that every request reads.
//!
//! Its maps are persistent: the next picture shares all but the path to what changed, so that a change costs the same
//! with ten thousand instances as with ten. Whoever applies a change also learns which agents it concerns: a renewed
//! certificate concerns none, a home that is quarantined concerns every relying party that accepts it.

use std::collections::HashSet;
use std::sync::Arc;

use homeward_certs::identity::InstanceName;
use rpds::HashTrieMapSync;

use crate::registry::{
    AccountKey, Client, ClientId, Home, Instance, InstanceId, RegisteredClient, Registration, Registry, TrustEdge,
    TrustEdgeId, Upstream,
};
use crate::storage::table::{self, Record};
use crate::storage::{Key, Revision, StoreError};

/// All of the registry at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: Option<Revision>,
    instances: HashTrieMapSync<InstanceName, Enrolled>,
    clients: HashTrieMapSync<ClientId, InstanceName>,
    /// Clients of relying parties without agent.
    registered: HashTrieMapSync<ClientId, Arc<RegisteredClient>>,
    registrations: HashTrieMapSync<InstanceName, Arc<Registration>>,
    /// Homes without agent.
    upstreams: HashTrieMapSync<InstanceName, Arc<Upstream>>,
    /// Edges in force, by relying party, then by home.
    accepted: HashTrieMapSync<InstanceName, HashTrieMapSync<InstanceName, Arc<TrustEdge>>>,
    /// The same by home, then by relying party: whom a change of the home concerns.
    released: HashTrieMapSync<InstanceName, HashTrieMapSync<InstanceName, ()>>,
    /// Edges that lack a consent. They stand apart, so that nobody takes one for an edge in force.
    one_sided: HashTrieMapSync<TrustEdgeId, Arc<TrustEdge>>,
    denials: u64,
    /// How many edges follow links.
    linked_edges: usize,
    /// The broker's own client.
    console: Option<Arc<RegisteredClient>>,
}

/// An instance, and when what its agent is told last changed.
#[derive(Clone, Debug)]
struct Enrolled {
    instance: Arc<Instance>,
    told_at: u64,
}

/// Whose agents a change of the registry concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The agents of these instances.
    Agents(HashSet<InstanceName>),
    /// It is not known: the registry was read anew.
    Everyone,
}

impl Snapshot {
    /// Reads the whole registry.
    pub(super) async fn load(registry: &Registry) -> Result<Self, StoreError> {
        let Registry { instances, edges, registrations, clients, upstreams, console, .. } = registry;
        // An empty commit changes nothing and tells where the store is.
        let revision = Some(instances.commit(Vec::new()).await?);
        let mut snapshot = Self { revision, console: console.clone(), ..Self::default() };
        // Nobody has been told anything yet.
        let mut touched = HashSet::new();
        for (_, stored) in instances.all().await? {
            snapshot.put_instance(stored.record, &mut touched);
        }
        for (_, stored) in edges.all().await? {
            snapshot.put_edge(stored.record, &mut touched);
        }
        for (_, stored) in registrations.all().await? {
            snapshot.put_registration(stored.record);
        }
        for (_, stored) in clients.all().await? {
            snapshot.put_registered(stored.record);
        }
        for (_, stored) in upstreams.all().await? {
            snapshot.put_upstream(stored.record, &mut touched);
        }
        Ok(snapshot)
    }

    /// The store's revision when the registry last changed, or when this broker started.
    pub fn revision(&self) -> u64 {
        self.revision.map_or(0, Revision::as_u64)
    }

    /// Whether the commit of this revision is in it.
    pub fn contains(&self, revision: Revision) -> bool {
        self.revision.is_some_and(|seen| seen >= revision)
    }

    /// The revision at which what an instance's agent is told last changed, as far as this broker has seen.
    pub fn told_at(&self, name: &InstanceName) -> u64 {
        self.instances.get(name).map_or(0, |enrolled| enrolled.told_at)
    }

    /// How many instances there are.
    pub fn size(&self) -> usize {
        self.instances.size()
    }

    /// An instance by name, in whatever state it is.
    pub fn instance(&self, name: &InstanceName) -> Option<&Arc<Instance>> {
        self.instances.get(name).map(|enrolled| &enrolled.instance)
    }

    /// All instances, in no order.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().map(|enrolled| &enrolled.instance)
    }

    /// The client behind a client id, if it may log anybody in: unknown, unconfirmed and quarantined look the same.
    pub fn client(&self, id: &str) -> Option<Client<'_>> {
        match self.clients.get(id) {
            Some(name) => {
                self.instance(name).filter(|instance| instance.is_active()).and_then(|i| Client::of_instance(i))
            }
            None => {
                let console = || self.console().filter(|console| console.relying_party.client_id.as_str() == id);
                self.registered.get(id).map(|client| Client::of_registered(client)).or_else(console)
            }
        }
    }

    /// The instance whose API an absolute address is part of (RFC 8707 2): its origin, or below it; never a registered
    /// client, which says itself where it is. It must be a relying party too, because tokens are made as its client wants
    /// them, and it may ask about them. Nobody, if two say that the address is theirs: one of them lies. Looks at all
    /// instances: few requests name a resource.
    pub fn resource_server(&self, resource: &str) -> Option<Client<'_>> {
        let below =
            |origin: &str| resource.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut found = self.instances().filter(|instance| instance.is_active() && below(&instance.public_url));
        match (found.next(), found.next()) {
            (Some(instance), None) => Client::of_instance(instance),
            _ => None,
        }
    }

    /// Whether a relying party may call an API in the name of a home's user: its own, or that of an instance that lets
    /// it and knows the user, as the user's home or as a relying party that accepts it.
    pub fn may_call(
        &self,
        relying_party: &InstanceName,
        api: &InstanceName,
        home: (&InstanceName, InstanceId),
    ) -> bool {
        let knows = home.0 == api || self.vouching(api, home.0, home.1).is_some();
        let allowed = || self.edge(relying_party, api).is_some_and(|edge| edge.api_access);
        relying_party == api || (knows && allowed())
    }

    /// Whether a relying party may call an API in its own name: its own, or that of an instance that lets it.
    pub fn may_call_itself(&self, relying_party: &InstanceName, api: &InstanceName) -> bool {
        relying_party == api || self.edge(relying_party, api).is_some_and(|edge| edge.api_access)
    }

    /// All clients, in no order, whether they may log anybody in or not.
    pub fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        let of_instances = self.instances().filter_map(|instance| Client::of_instance(instance));
        let registered = self.registered.values().map(|client| Client::of_registered(client));
        of_instances.chain(registered).chain(self.console())
    }

    /// The broker's own client, whoever has its name.
    pub(super) fn own_client(&self) -> Option<&Arc<RegisteredClient>> {
        self.console.as_ref()
    }

    /// A client of a relying party without agent.
    pub fn registered(&self, id: &str) -> Option<&Arc<RegisteredClient>> {
        self.registered.get(id)
    }

    /// A relying party without agent.
    pub fn registration(&self, name: &InstanceName) -> Option<&Arc<Registration>> {
        self.registrations.get(name)
    }

    /// All relying parties without agent, in no order.
    pub fn registrations(&self) -> impl Iterator<Item = &Arc<Registration>> {
        self.registrations.values()
    }

    /// The edge from a relying party to a home, if it is in force.
    pub fn edge(&self, relying_party: &InstanceName, home: &InstanceName) -> Option<&Arc<TrustEdge>> {
        self.accepted.get(relying_party)?.get(home)
    }

    /// All edges in force from a relying party, in no order.
    pub fn edges_of(&self, relying_party: &InstanceName) -> impl Iterator<Item = &TrustEdge> {
        self.accepted.get(relying_party).into_iter().flat_map(HashTrieMapSync::values).map(|edge| &**edge)
    }

    /// By what the clients of a relying party find accounts.
    pub fn account_keys(&self, relying_party: &InstanceName) -> HashSet<AccountKey> {
        let clients = self.clients().filter(|client| client.name == relying_party);
        clients.map(|client| client.relying_party.policy.account_key).collect()
    }

    /// What ops have said of a relying party and a home, whether it is in force or lacks a consent.
    pub fn known_edge(&self, id: &TrustEdgeId) -> Option<&Arc<TrustEdge>> {
        self.edge(&id.relying_party, &id.home).or_else(|| self.one_sided.get(id))
    }

    /// All that ops have said of relying parties and homes, in no order, in force or not.
    pub fn known_edges(&self) -> impl Iterator<Item = &Arc<TrustEdge>> {
        self.accepted.values().flat_map(HashTrieMapSync::values).chain(self.one_sided.values())
    }

    /// How many edges have been taken away, have lost a consent, or have changed whom links make of users, since the registry
    /// was read. Whoever compares two counts misses none, not even one that came and went in between.
    pub fn denials(&self) -> u64 {
        self.denials
    }

    /// Whether any relying party follows links at all: if none does, nobody looks them up.
    pub fn follows_links(&self) -> bool {
        self.linked_edges > 0
    }

    /// A home without agent.
    pub fn upstream(&self, name: &InstanceName) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// All homes without agent, in no order.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// A home by name, in whatever state it is.
    pub fn home(&self, name: &InstanceName) -> Option<Home<'_>> {
        let of_upstream = || self.upstream(name).map(|upstream| Home::of_upstream(upstream));
        self.instance(name).and_then(|instance| Home::of_instance(instance)).or_else(of_upstream)
    }

    /// The installation or provider of this name, whatever it is: what a home's users belong to.
    pub fn home_id(&self, name: &InstanceName) -> Option<InstanceId> {
        let of_upstream = || self.upstream(name).map(|upstream| upstream.id);
        self.instance(name).map(|instance| instance.id).or_else(of_upstream)
    }

    /// A home by name, if it may vouch now.
    pub fn vouching_home(&self, name: &InstanceName) -> Option<Home<'_>> {
        let cut_off = self.instance(name).is_some_and(|instance| listed_as(instance).is_none());
        self.home(name).filter(|_| !cut_off)
    }

    /// The homes that a relying party accepts and that may vouch now, by display name.
    pub fn homes_for(&self, relying_party: &InstanceName) -> Vec<Home<'_>> {
        let accepted = self.accepted.get(relying_party).into_iter().flat_map(HashTrieMapSync::keys);
        let mut homes: Vec<_> = accepted.filter_map(|home| self.vouching_home(home)).collect();
        // As people look for a name: authentik comes before Casdoor.
        homes.sort_by_cached_key(|home| (home.display_name.to_lowercase(), home.name));
        homes
    }

    /// The home and the edge, if this very installation may vouch to this relying party now: nobody quarantined it,
    /// withdrew the edge or enrolled another installation under its name since.
    pub fn vouching(
        &self,
        relying_party: &InstanceName,
        home: &InstanceName,
        id: InstanceId,
    ) -> Option<(Home<'_>, &Arc<TrustEdge>)> {
        let edge = self.edge(relying_party, home)?;
        let home = self.vouching_home(home).filter(|home| home.id == id)?;
        Some((home, edge))
    }

    /// Takes a change of one key in, and adds to `touched` whose agents it concerns.
    pub(super) fn apply(
        &mut self,
        key: &Key,
        value: Option<&[u8]>,
        revision: Revision,
        touched: &mut HashSet<InstanceName>,
    ) -> Result<(), StoreError> {
        self.revision = Some(revision);
        let table = key.as_str().split('/').next().unwrap_or_default();
        match (table, value) {
            (Instance::TABLE, Some(value)) => self.put_instance(table::decode(value)?, touched),
            (Instance::TABLE, None) => {
                if let Ok(name) = key.id().parse() {
                    self.remove_instance(&name, touched);
                }
            }
            (TrustEdge::TABLE, Some(value)) => self.put_edge(table::decode(value)?, touched),
            (TrustEdge::TABLE, None) => {
                // As [`TrustEdgeId::key`] writes it; a name holds no dot.
                if let Some((Ok(relying_party), Ok(home))) =
                    key.id().split_once('.').map(|(relying_party, home)| (relying_party.parse(), home.parse()))
                {
                    self.remove_edge(&TrustEdgeId { relying_party, home }, touched);
                }
            }
            (Registration::TABLE, Some(value)) => self.put_registration(table::decode(value)?),
            (Registration::TABLE, None) => {
                if let Ok(name) = key.id().parse::<InstanceName>() {
                    self.registrations.remove_mut(&name);
                }
            }
            (RegisteredClient::TABLE, Some(value)) => self.put_registered(table::decode(value)?),
            (RegisteredClient::TABLE, None) => drop(self.registered.remove_mut(key.id())),
            (Upstream::TABLE, Some(value)) => self.put_upstream(table::decode(value)?, touched),
            (Upstream::TABLE, None) => {
                if let Ok(name) = key.id().parse() {
                    self.remove_upstream(&name, touched);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn put_instance(&mut self, instance: Instance, touched: &mut HashSet<InstanceName>) {
        let name = instance.name.clone();
        let old = self.instances.get(&name).cloned();
        let (old, told_at) = old.map_or((None, 0), |old| (Some(old.instance), old.told_at));
        if let Some(party) = old.as_ref().and_then(|old| old.relying_party.as_ref()) {
            self.clients.remove_mut(&party.client_id);
        }
        if let Some(party) = &instance.relying_party {
            self.clients.insert_mut(party.client_id.clone(), name.clone());
        }
        let told_alike = old.as_ref().is_some_and(|old| told(old) == told(&instance));
        let listed_alike = old.as_ref().and_then(|old| listed_as(old)) == listed_as(&instance);
        self.instances.insert_mut(name.clone(), Enrolled { instance: Arc::new(instance), told_at });
        if !told_alike {
            self.touch(&name, touched);
        }
        if !listed_alike {
            self.touch_relying_parties_of(&name, touched);
        }
    }

    fn remove_instance(&mut self, name: &InstanceName, touched: &mut HashSet<InstanceName>) {
        let Some(gone) = self.instance(name).cloned() else { return };
        self.instances.remove_mut(name);
        if let Some(party) = &gone.relying_party {
            self.clients.remove_mut(&party.client_id);
        }
        touched.insert(name.clone());
        self.touch_relying_parties_of(name, touched);
    }

    fn put_registration(&mut self, registration: Registration) {
        self.registrations.insert_mut(registration.name.clone(), Arc::new(registration));
    }

    fn put_registered(&mut self, client: RegisteredClient) {
        self.registered.insert_mut(client.relying_party.client_id.clone(), Arc::new(client));
    }

    fn put_upstream(&mut self, upstream: Upstream, touched: &mut HashSet<InstanceName>) {
        let name = upstream.name.clone();
        let old = self.upstreams.get(&name).cloned();
        let listed_alike = old.is_some_and(|old| (&old.display_name, old.id) == (&upstream.display_name, upstream.id));
        self.upstreams.insert_mut(name.clone(), Arc::new(upstream));
        if !listed_alike {
            // It has no agent; but who follows its users' sessions looks at this.
            touched.insert(name.clone());
            self.touch_relying_parties_of(&name, touched);
        }
    }

    fn remove_upstream(&mut self, name: &InstanceName, touched: &mut HashSet<InstanceName>) {
        if self.upstreams.remove_mut(name) {
            touched.insert(name.clone());
            self.touch_relying_parties_of(name, touched);
        }
    }

    fn put_edge(&mut self, edge: TrustEdge, touched: &mut HashSet<InstanceName>) {
        if !edge.is_in_force() {
            self.remove_edge(&edge.id, touched);
            self.one_sided.insert_mut(edge.id.clone(), Arc::new(edge));
            return;
        }
        self.one_sided.remove_mut(&edge.id);
        let TrustEdgeId { relying_party, home } = edge.id.clone();
        let mut homes = self.accepted.get(&relying_party).cloned().unwrap_or_default();
        let (known, linked) = (homes.get(&home).cloned(), edge.linked);
        homes.insert_mut(home.clone(), Arc::new(edge));
        // Links to the home that is accepted now are followed from now on.
        let follows = self.linked_edges > 0 && homes.values().any(|edge| edge.linked.is_some());
        self.accepted.insert_mut(relying_party.clone(), homes);
        self.linked_edges += usize::from(linked.is_some());
        if let Some(known) = known {
            self.linked_edges -= usize::from(known.linked.is_some());
            if known.linked != linked {
                // Users of the home are others there from now on: what they have is dead, and the sessions follow.
                self.denials += 1;
                touched.insert(relying_party);
            }
            // What a home may vouch for is nothing that its relying party's agent is told.
            return;
        }
        let mut parties = self.released.get(&home).cloned().unwrap_or_default();
        parties.insert_mut(relying_party.clone(), ());
        self.released.insert_mut(home, parties);
        self.touch(&relying_party, touched);
        if follows {
            self.denials += 1;
            touched.insert(relying_party);
        }
    }

    fn remove_edge(&mut self, id: &TrustEdgeId, touched: &mut HashSet<InstanceName>) {
        self.one_sided.remove_mut(id);
        let TrustEdgeId { relying_party, home } = id;
        let Some(edge) = self.edge(relying_party, home) else { return };
        self.linked_edges -= usize::from(edge.linked.is_some());
        self.denials += 1;
        remove_inner(&mut self.accepted, relying_party, home);
        remove_inner(&mut self.released, home, relying_party);
        self.touch(relying_party, touched);
        // Also one without agent: its sessions end.
        touched.insert(relying_party.clone());
    }

    fn touch_relying_parties_of(&mut self, home: &InstanceName, touched: &mut HashSet<InstanceName>) {
        let parties = self.released.get(home).cloned().unwrap_or_default();
        for party in parties.keys() {
            self.touch(party, touched);
        }
    }

    fn touch(&mut self, name: &InstanceName, touched: &mut HashSet<InstanceName>) {
        let revision = self.revision();
        if let Some(enrolled) = self.instances.get_mut(name) {
            enrolled.told_at = revision;
            touched.insert(name.clone());
        }
    }
}

/// What of an instance its own agent is told or has to feel: its standing, and the credential that it should use.
fn told(instance: &Instance) -> impl PartialEq {
    let credential = instance.relying_party.as_ref().map(|party| {
        let wanted = party.wanted_credential();
        (party.client_id.clone(), wanted.version(), wanted.secret().is_some())
    });
    (instance.is_active(), instance.id, credential)
}

/// What the agents of relying parties that accept it are told, if it may vouch now.
fn listed_as(instance: &Instance) -> Option<&str> {
    (instance.is_active() && instance.home.is_some()).then_some(instance.display_name.as_str())
}

fn remove_inner<T>(
    outer: &mut HashTrieMapSync<InstanceName, HashTrieMapSync<InstanceName, T>>,
    first: &InstanceName,
    second: &InstanceName,
) {
    let Some(mut inner) = outer.get(first).cloned() else { return };
    inner.remove_mut(second);
    if inner.is_empty() {
        outer.remove_mut(first);
    } else {
        outer.insert_mut(first.clone(), inner);
    }
}
