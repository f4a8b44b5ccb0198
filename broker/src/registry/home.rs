//! Homes as logins know them: instances in that role, and identity providers without agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use homeward_certs::identity::InstanceName;

use crate::clock::Timestamp;
use crate::registry::{HomeStatus, Instance, InstanceId, Liveness, Portal, Upstream};

/// A home, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// As trust edges name it.
    pub name: &'a InstanceName,
    /// What its users' subjects are made of.
    pub id: InstanceId,
    /// The name people read.
    pub display_name: &'a str,
    /// How browsers get there.
    pub way: Way<'a>,
}

/// How browsers get to a home.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// To its agent's portal, with a ticket.
    Portal(&'a Instance, &'a Portal),
    /// To a provider, as the broker's own authorization request.
    Provider(&'a Upstream),
}

impl<'a> Home<'a> {
    /// An instance in its role of authenticating its own users.
    pub fn of_instance(instance: &'a Instance) -> Option<Self> {
        let portal = instance.home.as_ref()?;
        let (name, display_name) = (&instance.name, instance.display_name.as_str());
        Some(Self { name, id: instance.id, display_name, way: Way::Portal(instance, portal) })
    }

    /// An identity provider without agent.
    pub fn of_upstream(upstream: &'a Upstream) -> Self {
        let (name, display_name) = (&upstream.name, upstream.display_name.as_str());
        Self { name, id: upstream.id, display_name, way: Way::Provider(upstream) }
    }

    /// Where browsers meet it: an origin.
    pub fn public_url(&self) -> String {
        match self.way {
            Way::Portal(instance, _) => instance.public_url.clone(),
            Way::Provider(upstream) => upstream.protocol.origin(),
        }
    }

    /// Whether it can be chosen now.
    pub fn status(&self, liveness: &Liveness, providers: &Reachability) -> HomeStatus {
        match self.way {
            Way::Portal(..) => liveness.home_status(self.name),
            Way::Provider(upstream) => providers.status(upstream),
        }
    }
}

/// Whether the providers behind homes without agent answered when this broker asked them last. The flow that asks them
/// writes it, the home picker and ops read it: nobody who looks makes the broker ask.
#[derive(Clone, Debug, Default)]
pub struct Reachability(Arc<Mutex<HashMap<InstanceName, Failure>>>);

/// Why a provider cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which home of this name.
    id: InstanceId,
    /// One sentence for ops.
    pub problem: String,
    /// Since when.
    pub since: Timestamp,
}

impl Reachability {
    /// It answered as it should.
    pub fn works(&self, upstream: &Upstream) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&upstream.name);
    }

    /// It did not, for this reason.
    pub fn fails(&self, upstream: &Upstream, problem: String, now: Timestamp) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = failures.get(&upstream.name).filter(|failure| failure.id == upstream.id);
        let since = known.map_or(now, |failure| failure.since);
        failures.insert(upstream.name.clone(), Failure { id: upstream.id, problem, since });
    }

    /// What is wrong with it; nothing if it works, or nobody has asked it yet.
    pub fn failure(&self, upstream: &Upstream) -> Option<Failure> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&upstream.name).filter(|failure| failure.id == upstream.id).cloned()
    }

    fn status(&self, upstream: &Upstream) -> HomeStatus {
        if self.failure(upstream).is_some() { HomeStatus::NotReady } else { HomeStatus::Ready }
    }
}
