//! Homes as logins know them: instances in that role, and identity providers without agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use homeward_certs::identity::InstanceName;

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
#[derive(Debug)]
struct Failure {
    /// Of which home of this name.
    id: InstanceId,
    /// One sentence for ops.
    problem: String,
}

impl Reachability {
    /// It answered as it should.
    pub fn works(&self, upstream: &Upstream) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&upstream.name);
    }

    /// It did not, for this reason.
    pub fn fails(&self, upstream: &Upstream, problem: String) {
        let failure = Failure { id: upstream.id, problem };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(upstream.name.clone(), failure);
    }

    /// What is wrong with it, as one sentence for ops; nothing if it works, or nobody has asked it yet.
    pub fn problem(&self, upstream: &Upstream) -> Option<String> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&upstream.name).filter(|failure| failure.id == upstream.id).map(|failure| failure.problem.clone())
    }

    fn status(&self, upstream: &Upstream) -> HomeStatus {
        if self.problem(upstream).is_some() { HomeStatus::NotReady } else { HomeStatus::Ready }
    }
}
